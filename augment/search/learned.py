"""The step that learns a policy from the labelled rows, and then augments with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from augment.policy import Policy
from augment.presets import preset
from augment.search.evidence import Evidence
from lake.op import Barrier, Op

if TYPE_CHECKING:
    import numpy.typing as npt

    from augment.search.screen import Sample, Scores

__all__ = ["SKETCH", "STATE", "Learned"]

SKETCH = pa.schema(
    [
        pa.field("_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("pixels", pa.binary(), nullable=False),  # C order, little-endian
        pa.field("shape", pa.list_(pa.int32()), nullable=False),  # height, width, channels, bits
        pa.field("size", pa.list_(pa.int32()), nullable=False),  # height, width of the original
    ]
)
"""A labelled image, reduced."""

STATE = pa.schema(
    [
        pa.field("policy", pa.string(), nullable=False),  # JSON of a Policy
        pa.field("evidence", pa.string(), nullable=False),  # JSON of an Evidence
    ]
)
"""What was decided: one row."""

_CHANCE_Z = 2.0  # standard errors by which the model must beat guessing
_TWO = 2


class Learned(Barrier):
    """Augment with a policy from which the ops that destroy labels have been taken out.

    A small model, trained on the labelled rows without augmentation, judges every op of the base policy
    at every level on rows it has not seen (:mod:`augment.search.screen`). Harmful ops are dropped, the
    others get a ceiling. With too few labels, or a model that does not beat guessing, nothing can be
    learned: the base policy is used as it is, and the evidence says so.

    Attributes:
        base: the policy to prune: a name of :data:`augment.presets.PRESETS`, or a policy.
        copies: augmented copies per image.
        seed: of every draw.
        folds: models trained, each judging the rows it has not seen.
        levels: magnitudes tried per op, denser below.
        tolerance: how much of the accuracy above guessing an op may cost before it is cut.
        max_rows: labelled images looked at; those with the smallest ids, which are hashes.
        resolution: longest side to which these are reduced for judging.
        min_per_class: classes with fewer labelled images take no part.
        late: no copies are made; the loader applies the policy, see :class:`augment.Apply`.

    >>> Learned(copies=2).base
    'trivial_augment_wide'
    """

    augments: ClassVar[bool] = True

    base: str | Policy = "trivial_augment_wide"
    copies: Annotated[int, Field(ge=1, le=1000)] = 1
    seed: Annotated[int, Field(ge=0, lt=1 << 64)] = 0
    folds: Annotated[int, Field(ge=2, le=5)] = 4
    levels: Annotated[int, Field(ge=1, le=31)] = 5
    tolerance: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] = 0.1
    max_rows: Annotated[int, Field(ge=20, le=100_000)] = 4000
    resolution: Annotated[int, Field(ge=8, le=256)] = 32
    min_per_class: Annotated[int, Field(ge=2)] = 10
    late: bool = False

    @field_validator("base")
    @classmethod
    def _known(cls, base: str | Policy) -> str | Policy:
        if isinstance(base, str):
            preset(base)
        return base

    @property
    def base_policy(self) -> Policy:
        """The policy to prune, as a value."""
        return preset(self.base) if isinstance(self.base, str) else self.base

    def sketch(self, table: pa.Table) -> pa.Table:
        """Reduced pixels of the labelled images with the smallest ids; unreadable ones are passed over.

        Returns:
            At most ``max_rows`` rows of :data:`SKETCH`, ascending by ``_id``.
        """
        from lake.images import BadImageError, decode

        rows: list[dict[str, object]] = []
        seen = ""
        for _id, label, blob in _labelled(table):
            if len(rows) == self.max_rows:
                break
            if _id == seen:
                continue
            try:
                pixels = decode(blob.as_py())
            except BadImageError:
                continue  # the op that augments drops the row, and says why
            rows.append(_packed(_id, label, pixels, self.resolution))
            seen = _id
        return pa.Table.from_pylist(rows, schema=SKETCH)

    def resolve(self, sketches: Sequence[pa.Table]) -> pa.Table:
        """Screen the base policy: one row of :data:`STATE`, whatever the order and cutting of the sketches."""
        evidence = self._evidence(_chosen(sketches, self.max_rows))
        policy = Policy.model_validate(evidence.policy)
        return pa.Table.from_pylist(
            [{"policy": policy.model_dump_json(), "evidence": evidence.to_json()}], schema=STATE
        )

    def bind(self, state: pa.Table) -> Op:
        """The step that augments with what was learned."""
        from augment.apply import Apply

        policy = Policy.model_validate_json(state.column("policy")[0].as_py())
        step: Op = Apply(policy=policy, copies=self.copies, seed=self.seed, late=self.late)
        return step

    @staticmethod
    def evidence(state: pa.Table) -> Evidence:
        """What :meth:`resolve` found, as a value."""
        return Evidence.from_json(state.column("evidence")[0].as_py())

    def _evidence(self, rows: pa.Table) -> Evidence:
        from augment.search.screen import levels_of, measure, perturb

        base = self.base_policy
        counts = Counter(rows.column("label").to_pylist())
        classes = tuple(sorted(name for name, count in counts.items() if count >= self.min_per_class))
        plain = Evidence(
            learned=False,
            why="",
            base=base.name,
            policy=base.model_dump(mode="json"),
            space=base.space,
            classes=classes,
            left_out=tuple(sorted(set(counts) - set(classes))),
        )
        if len(classes) < _TWO:
            enough = f"at least {self.min_per_class} labelled images"
            return _unlearned(plain, f"{len(classes)} of {len(counts)} classes have {enough}, two must")
        sample = _sample(rows, classes)
        levels = levels_of(self.levels)
        ops = tuple(name for name in base.ops if name != "Identity")
        apply = partial(perturb, space=base.space, resampling=base.resampling, seed=self.seed)
        scores = measure(
            sample, ops, levels, apply, folds=self.folds, seed=self.seed, resolution=self.resolution
        )
        accuracy = round(scores.clean_accuracy, 6)
        seen = replace(plain, rows=len(sample.ids), folds=self.folds, clean_accuracy=accuracy)
        return self._decided(seen, scores, levels)

    def _decided(self, seen: Evidence, scores: Scores, levels: tuple[float, ...]) -> Evidence:
        from augment.search.screen import judge

        base, chance = self.base_policy, 1 / len(seen.classes)
        found = scores.clean_accuracy
        if found - _CHANCE_Z * scores.clean_stderr <= chance:
            return _unlearned(seen, f"the small model finds {found:.3f} of the classes, guessing {chance:.3f}")
        allowed = round(self.tolerance * (found - chance), 6)
        ops = tuple(judge(scores, op, levels, allowed) for op in scores.ops)
        dropped = [op.op for op in ops if not op.kept]
        limited = {op.op: op.ceiling for op in ops if op.kept and op.magnitude}
        policy = base.without(dropped).with_ceilings(limited)
        policy = policy.model_copy(update={"name": f"{base.name or 'policy'}, learned"})
        cut = sum(ceiling < 1 for ceiling in limited.values())
        return replace(
            seen,
            learned=True,
            why=f"{len(dropped)} of {len(ops)} ops dropped, {cut} limited",
            policy=policy.model_dump(mode="json"),
            tolerance=allowed,
            levels=levels,
            ops=ops,
        )


def _unlearned(seen: Evidence, why: str) -> Evidence:
    return replace(seen, learned=False, why=f"the base policy is used as it is: {why}")


def _labelled(table: pa.Table) -> list[tuple[str, str, pa.Scalar]]:
    """(id, label, image) of the rows that have both, ascending by id and label; the images not copied yet."""
    if not {"label", "image"} <= set(table.column_names):
        return []
    ids, labels, images = (table.column(name) for name in ("_id", "label", "image"))
    keys = sorted(
        (_id, label, row)
        for row, (_id, label) in enumerate(zip(ids.to_pylist(), labels.to_pylist(), strict=True))
        if label is not None
    )
    return [(_id, label, images[row]) for _id, label, row in keys if images[row].is_valid]


def _packed(_id: str, label: str, pixels: npt.NDArray[Any], resolution: int) -> dict[str, object]:
    from augment.search.model import shrink

    small = shrink(pixels, resolution)
    return {
        "_id": _id,
        "label": label,
        "pixels": small.astype(small.dtype.newbyteorder("<")).tobytes(),
        "shape": [*small.shape, 8 * small.dtype.itemsize],
        "size": list(pixels.shape[:2]),
    }


def _chosen(sketches: Sequence[pa.Table], count: int) -> pa.Table:
    """The rows with the smallest ids, one per id (of equal ids the smallest label)."""
    rows = pa.concat_tables([SKETCH.empty_table(), *(s.select(SKETCH.names) for s in sketches)])
    # By reference up to here, and only the names are sorted: all pixels together may be gigabytes.
    order = pc.sort_indices(
        rows.select(["_id", "label"]), sort_keys=[("_id", "ascending"), ("label", "ascending")]
    )
    ids = rows.column("_id").take(order).to_pylist()
    first = [row for row, _id in enumerate(ids) if row == 0 or _id != ids[row - 1]]
    chosen = order.take(pa.array(first[:count], pa.int64())).to_pylist()
    return pa.concat_tables([SKETCH.empty_table(), *(rows.slice(row, 1) for row in chosen)]).combine_chunks()


def _sample(rows: pa.Table, classes: tuple[str, ...]) -> Sample:
    from augment.search.screen import Sample

    number = {name: index for index, name in enumerate(classes)}
    taken = [row for row in rows.to_pylist() if row["label"] in number]
    images = []
    for row in taken:
        *shape, bits = row["shape"]
        pixels = np.frombuffer(row["pixels"], np.dtype(f"<u{bits // 8}")).reshape(shape)
        images.append(pixels.astype(pixels.dtype.newbyteorder("=")))
    return Sample(
        ids=tuple(row["_id"] for row in taken),
        labels=np.array([number[row["label"]] for row in taken], np.int64),
        classes=classes,
        images=tuple(images),
        sizes=tuple((row["size"][0], row["size"][1]) for row in taken),
    )
