"""What a pipeline's augmentation does to rows of its lake: which policy, which rows, and a page of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lake.errors import ConfigError, InputError
from lake.lake import Lake
from pipeline.config import Config
from pipeline.preview.policy import Used, policy_of, texts_with
from pipeline.preview.rows import rows_of
from pipeline.report.samples import place

if TYPE_CHECKING:
    from augment.preview import Preview, TextPreview
    from augment.targets import Targets

__all__ = ["Looked", "Shown", "Used", "look", "policy_of"]


@dataclass(frozen=True)
class Shown:
    """A row and its preview."""

    id: str
    label: str | None
    source: str
    preview: Preview | TextPreview


@dataclass(frozen=True)
class Looked:
    """What ``gristmill preview`` shows.

    Attributes:
        pipeline: its name.
        used: the policy.
        seed: of the draws.
        table: where the rows come from, in words.
        rows: the rows.
        passed_over: rows that were chosen but cannot be shown: the place, and why.
    """

    pipeline: str
    used: Used
    seed: int
    table: str
    rows: tuple[Shown, ...]
    passed_over: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it; no record's content but what was done to it."""
        used = self.used
        return {
            "pipeline": self.pipeline,
            "step": used.step,
            "policy": {"name": used.policy.name, "digest": used.policy.digest, "origin": used.origin},
            "seed": self.seed,
            "rows_from": self.table,
            "rows": [_told(row) for row in self.rows],
            "passed_over": list(self.passed_over),
        }

    def render(self, *, colour: bool = False) -> str:
        """In words, for a terminal."""
        from augment.preview.texts import printable

        used = self.used
        lines = [
            f"step {used.step}: {used.policy.name or 'policy'} ({used.origin}), seed {self.seed}",
            f"{len(self.rows)} row{'s' * (len(self.rows) != 1)} of {self.table}",
        ]
        for row in self.rows:
            lines += ["", printable("  ".join(filter(None, (row.label, row.id[:12], row.source))))]
            lines += _lines(row.preview, colour=colour)
        lines += [printable(f"passed over: {each}") for each in self.passed_over]
        return "\n".join(lines)


def _lines(shown: Preview | TextPreview, *, colour: bool) -> list[str]:
    from augment.preview import TextPreview

    if isinstance(shown, TextPreview):
        return [f"  {line}" for line in shown.terminal(colour=colour).splitlines()]
    lines = [f"  {shown.note}"]
    for cell in shown.samples.cells:
        stages = len(cell.fused.splitlines()) if " \N{MIDDLE DOT} " in cell.words else 0
        fused = f"  ({stages} pass{'es' * (stages != 1)})" if stages else ""
        lines.append(f"  {cell.title:<9}{cell.words}{fused}")
    return lines


def _told(row: Shown) -> dict[str, Any]:
    from augment.preview import TextPreview

    shown, head = row.preview, {"_id": row.id, "label": row.label, "source": row.source}
    if isinstance(shown, TextPreview):
        samples = [{"epoch": each.epoch, "words": each.words} for each in shown.samples]
        return {**head, "samples": samples}
    epochs = enumerate(shown.samples.cells, start=1)
    return {
        **head,
        "shape": list(shown.original.image.shape),
        "dtype": str(shown.original.image.dtype),
        "samples": [{"epoch": epoch, "words": cell.words, "fused": cell.fused} for epoch, cell in epochs],
        "levels": {level.name: [cell.words for cell in level.cells] for level in shown.levels},
    }


def look(
    config: Config,
    *,
    ids: Sequence[str] = (),
    count: int = 4,
    seed: int | None = None,
    epochs: int = 8,
    ops: Sequence[str] | None = None,
) -> Looked:
    """Preview a pipeline's augmentation.

    Args:
        config: of the pipeline.
        ids: which rows: an ``_id``, six or more of its first digits, or ``file:row``. None: the first of each
            class, by a hash of the ``_id``.
        count: how many rows, where none is named.
        seed: of the draws; that of the step unless given.
        epochs: samples of each row.
        ops: show the levels of these ops only.

    Raises:
        ConfigError: no step augments, or there is no such op.
        MissingTableError: there is no such row.
        InputError: there is nothing to show, or the image of a row that was named cannot be read.
    """
    lake = Lake(config.lake)
    used = policy_of(config, lake)
    names = _ops(ops)
    payload = used.policy.modality
    if payload == "text":
        if names:
            raise ConfigError("ops are shown alone on images only", hint="leave out --op")
        used = replace(used, texts=texts_with(config, lake, used.by))
    found, table = rows_of(config, lake, payload, ids, count)
    seed = used.seed if seed is None else seed
    rows: list[Shown] = []
    bad: list[str] = []
    earlier: list[Any] = []
    for row in found:
        if len(rows) == count and not ids:
            break
        try:
            shown = _previewed(row, used, payload, seed, epochs, names, earlier)
        except _BadRowError as error:
            if ids:
                raise InputError(
                    f"the row {row['_id']} cannot be shown", where=place(row["_source"]), why=str(error)
                ) from error
            bad.append(f"{place(row['_source']) or row['_id']}: {error}")
            continue
        rows.append(Shown(row["_id"], row["label"], place(row["_source"]), shown))
    if not rows:
        raise InputError(
            f"there is no {payload} to show in {table}", where=config.lake,
            why="; ".join(bad[:3]) or f"no row has one, and step {used.step} works on {payload}s",
        )  # fmt: skip
    return Looked(config.name, used, seed, table, tuple(rows), tuple(bad))


def _ops(ops: Sequence[str] | None) -> list[str] | None:
    from augment.ops import find

    if not ops:
        return None
    try:
        return [find(name).name for name in ops]
    except ValueError as error:
        what, _, hint = str(error).partition(": ")
        raise ConfigError(what, hint=hint or None) from error


class _BadRowError(Exception):
    """A row's image, mask, boxes or keypoints cannot be used: the rule, and why."""


def _previewed(  # noqa: PLR0917  (what one row needs)
    row: dict[str, Any],
    used: Used,
    payload: str,
    seed: int,
    epochs: int,
    ops: list[str] | None,
    earlier: list[Any],
) -> Preview | TextPreview:
    from augment.preview import preview
    from lake.images import BadImageError, decode

    if payload == "text":
        text: str = row["text"]
        labels = [row["label"]] if "fitted" in used.texts else None
        return preview(used.policy, text, row["_id"], seed, epochs, labels=labels, **used.texts)
    try:
        pixels = decode(row["image"])
    except BadImageError as error:
        raise _BadRowError(str(error)) from error
    partner = next(
        (each for each in earlier if each.shape == pixels.shape and each.dtype == pixels.dtype), None
    )
    if used.policy.mixes:
        earlier.append(pixels)
    targets = _targets(row, used, pixels.shape)
    try:
        shown: Preview = preview(
            used.policy, pixels, row["_id"], seed, epochs, targets, ops=ops, partner=partner
        )
    except ValueError as error:
        raise ConfigError(f"step {used.step} cannot be shown", why=str(error)) from error
    return shown


def _targets(row: dict[str, Any], used: Used, shape: tuple[int, ...]) -> Targets | None:
    """What the step moves along with this row's image."""
    from augment.annotations import BadAnnotationError, parse
    from augment.targets import Targets

    if not used.columns:
        return None
    try:
        said = parse(shape, used.box_format, **{what: row.get(name) for what, name in used.columns.items()})
    except BadAnnotationError as error:
        raise _BadRowError(f"{error.rule}: {error.reason}") from error
    labels = [_label(item) for item in said.box_items]
    return Targets(
        masks=None if said.mask is None else [said.mask],
        boxes=None if said.boxes is None else [said.boxes],
        keypoints=None if said.keypoints is None else [said.keypoints],
        box_format=used.box_format,
        box_labels=[labels] if any(labels) else None,
    )


def _label(item: Any) -> str:
    """What a box is of, where it says so."""
    if isinstance(item, dict):
        named = (item[name] for name in ("label", "category", "class", "category_id") if name in item)
        return str(next(named, ""))
    return str(item[4]) if len(item) > 4 else ""  # noqa: PLR2004  (behind the four numbers)
