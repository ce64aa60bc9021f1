"""Which policy a pipeline augments with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from lake import ledger
from lake.errors import ConfigError
from lake.lake import Lake
from pipeline.config import Config
from pipeline.plan import stages_of
from pipeline.preview.rows import first_rows

if TYPE_CHECKING:
    from augment.policy import Policy
    from lake.op import Step

__all__ = ["Used", "policy_of", "texts_with"]

_FITTED = 20_000  # rows whose words are counted, for ops that have to see the corpus


@dataclass(frozen=True)
class Used:
    """The policy of a pipeline's augment step.

    Attributes:
        step: its label, as in the report.
        policy: what it augments with.
        origin: where that comes from, in words.
        seed: of the step.
        by: the step itself.
        columns: what the step moves along with an image: ``mask``, ``boxes`` and ``keypoints`` to column names.
        box_format: how boxes are said.
        texts: of a policy for texts, further arguments of :func:`augment.text.apply_texts`.
    """

    step: str
    policy: Policy
    origin: str
    seed: int
    by: Any
    columns: dict[str, str] = field(default_factory=dict)
    box_format: Any = "pascal_voc"
    texts: dict[str, Any] = field(default_factory=dict)


def policy_of(config: Config, lake: Lake) -> Used:
    """The policy of the first step that augments.

    One that is learned is the one that the last run stored; before the first run it is the one to be pruned.

    Raises:
        ConfigError: no step augments, or the one that does has no policy to show.
    """
    from augment.policy import Policy

    stage = stages_of(config)[-1]
    label, step = next(((label, step) for label, step in stage.steps if step.augments), (None, None))
    if label is None or step is None:  # the two go together
        raise ConfigError(
            "no step of the configuration augments", where=config.name,
            hint="add one: `- augment.Apply: {policy: trivial_augment_wide}`",
        )  # fmt: skip
    seed = int(getattr(step, "seed", 0))
    if hasattr(step, "base_policy"):
        policy, origin = _learned(config, lake, label, step)
        return Used(label, policy, origin, seed, step)
    resolved = getattr(step, "resolved", None)
    if not isinstance(resolved, Policy):
        raise ConfigError(f"step {label} has no policy that could be shown", where=config.name)
    named = getattr(step, "policy", None)
    origin = "a preset" if isinstance(named, str) else "as the configuration has it"
    columns = {what: getattr(step, what, "") for what in ("mask", "boxes", "keypoints")}
    return Used(
        label, resolved, origin, seed, step, {what: name for what, name in columns.items() if name},
        getattr(step, "box_format", "pascal_voc"),
    )  # fmt: skip


def _learned(config: Config, lake: Lake, label: str, step: Step) -> tuple[Policy, str]:
    from augment.policy import Policy

    base: Policy = step.base_policy  # type: ignore[attr-defined]  # the caller looked
    stage = stages_of(config)[-1]
    last = ledger.last_run(lake, config.name, stage.name)
    table = lake.table("_policies")
    if last is None or not table.exists:
        return base, "the base policy: none was learned yet"
    mine = (
        (pc.field("pipeline") == config.name) & (pc.field("step") == label) & (pc.field("key") == last["key"])
    )
    rows = table.to_table(["policy", "evidence"], filter=mine).to_pylist()
    if not rows:
        return base, "the base policy: the last run learned none for this step"
    policy = Policy.model_validate_json(rows[-1]["policy"])
    evidence = json.loads(rows[-1]["evidence"])
    before = dict(map(tuple, json.loads(last["report"])["inputs"]["steps"]))
    stale = "" if before.get(label) == step.model_dump(mode="json") else ", with other settings than now"
    what = "learned by" if evidence.get("learned") else "not pruned by"
    return policy, f"{what} the last run{stale}: {evidence.get('why', '')}"


def texts_with(config: Config, lake: Lake, step: Any) -> dict[str, Any]:
    """What the step works on texts with; what it has to see all texts for, it sees the first ones for."""
    from augment.text.fitted import Fitted
    from augment.text.table import FITTED

    found: dict[str, Any] = {
        name: value for name in ("protect", "lexicon") if (value := getattr(step, name, None)) is not None
    }
    if found.get("lexicon") == "wordnet":
        del found["lexicon"]  # the default, which is looked for only where an op needs it
    if FITTED & set(step.resolved.ops):
        table = lake.table(stages_of(config)[-1].source)
        rows = table.scan(["_id", "text", "label"]) if table.exists else first_rows(config)
        found["fitted"] = Fitted(step.resolve([step.sketch(each) for each in _up_to(rows, _FITTED)]))
    return found


def _up_to(batches: Iterable[Any], most: int) -> Iterator[pa.Table]:
    for batch in batches:
        table = pa.table(batch) if isinstance(batch, pa.RecordBatch) else batch
        yield table.slice(0, most)
        most -= table.num_rows
        if most <= 0:
            return
