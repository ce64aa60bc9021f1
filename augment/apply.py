"""The step that makes training copies with a policy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from augment import late
from augment.engine.cpu import threads
from augment.policy import Policy
from augment.presets import preset
from augment.targets import BoxFormat
from lake import schema
from lake.errors import ConfigError
from lake.op import Op, Outcome

if TYPE_CHECKING:
    from augment.annotations import Annotated as Annotation
    from augment.engine.programs import Programs

__all__ = ["COPY_FIELDS", "Apply"]

COPY_FIELDS = (pa.field("_copy", pa.int32()), pa.field("_augmented", pa.string()))
"""The columns that the step adds: 0 and null for an original; n and what was done, for its n-th copy."""

# Decoded pixels held at once, beside as much again for the augmented ones.
_PIXEL_BYTES = 64 << 20
_MOST_THREADS = 8

Pixels = npt.NDArray[Any]


class _Copy(NamedTuple):
    """One augmented copy: the encoded image, what was done, and the columns that moved with it."""

    image: bytes
    words: str
    moved: dict[str, Any]


class Apply(Op):
    """Give on every row, each one with an image followed by augmented copies of it.

    The originals pass untouched, with ``_copy`` = 0. Copy n is the policy's epoch n: the same row, id,
    label and metadata, with an augmented image (PNG, 8 or 16 bits as the original) and ``_augmented``, what
    was done, in words. What a copy looks like depends on the row's ``_id``, ``seed`` and n, on nothing else.
    A row without an image passes alone; one whose image, mask, boxes or keypoints cannot be read is dropped.

    Attributes:
        policy: a name of :data:`augment.presets.PRESETS`, or a policy (in a configuration, its fields).
        copies: how many per image.
        seed: of the draws.
        mask: a column with an encoded mask of the image's size, which geometric ops move along; "" for none.
        boxes: a column with boxes, likewise; its forms: :mod:`augment.annotations`. Where its numbers are
            integers, moved ones are rounded.
        keypoints: a column with keypoints, likewise.
        box_format: how boxes are said: ``pascal_voc``, ``coco`` or ``yolo``.
        least_visible: share of its area that a box must have left, or it is dropped from the copy.
        late: no copies are made; the rows name the policy in ``_policy``, and the loader applies it, anew in
            every epoch (:mod:`augment.late`).

    >>> Apply(policy="randaugment", copies=2).resolved.draws
    2
    """

    augments: ClassVar[bool] = True

    policy: str | Policy = "trivial_augment_wide"
    copies: Annotated[int, Field(ge=0, le=10_000)] = 1
    seed: Annotated[int, Field(ge=0, lt=1 << 64)] = 0
    mask: str = ""
    boxes: str = ""
    keypoints: str = ""
    box_format: BoxFormat = "pascal_voc"
    least_visible: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    late: bool = False

    @field_validator("policy")
    @classmethod
    def _known(cls, value: str | Policy) -> str | Policy:
        policy = preset(value) if isinstance(value, str) else value
        if policy.modality == "text":
            raise ValueError("a policy for texts: the step is augment.ApplyText")
        return value

    @model_validator(mode="after")
    def _carried_out(self) -> Self:
        if self.resolved.mixes and not self.late:
            raise ValueError(
                "MixUp and CutMix mix labels too, which a row has one of: let the loader (late: true)"
            )
        return self

    @model_validator(mode="after")
    def _moved_columns(self) -> Self:
        names = self._columns
        for name in names:
            if name.startswith("_") or name == "image" or names.count(name) > 1:
                raise ValueError(
                    f"{name!r} cannot move with the images: name columns of their own for mask, boxes and "
                    "keypoints"
                )
        if names and self.late:
            raise ValueError(
                f"late: true leaves the images to the loader: name {', '.join(names)} there, as in "
                f'pipeline.load(..., mask="mask"), or make copies'
            )
        return self

    @property
    def resolved(self) -> Policy:
        """The policy itself."""
        return preset(self.policy) if isinstance(self.policy, str) else self.policy

    def apply(self, table: pa.Table) -> Outcome:
        """Keep, and multiply, the rows; drop those whose image cannot be read.

        Raises:
            lake.errors.ConfigError: the rows are copies of an earlier step already.
        """
        if self.late:
            return Outcome(late.pinned(table, self.resolved, self.seed), schema.no_drops())
        if "_copy" in table.column_names:
            raise ConfigError(
                "augment.Apply after a step that has made copies already",
                hint="make the copies in one step: a policy can draw several ops (`draws`) for one image",
            )
        if "image" not in table.column_names or self.copies == 0:
            return Outcome(_with_copies(table, np.zeros(table.num_rows, np.int32), None), schema.no_drops())
        made: dict[int, list[_Copy]] = {}
        bad: dict[int, tuple[str, str]] = {}
        with ThreadPoolExecutor(threads()) as pool:
            for rows, images in _decoded(table, bad, pool):
                said = self._annotations(table, rows, images, bad)
                good = [k for k, row in enumerate(rows) if row not in bad]
                kept = [rows[k] for k in good]
                copies = self._augmented(table, kept, [images[k] for k in good], said, pool)
                made.update(zip(kept, copies, strict=True))
        return Outcome(self._assembled(table, made, bad), _dropped(table, bad))

    @property
    def _columns(self) -> tuple[str, ...]:
        """The columns that move with the image."""
        return tuple(name for name in (self.mask, self.boxes, self.keypoints) if name)

    def _annotations(
        self, table: pa.Table, rows: list[int], images: list[Pixels], bad: dict[int, tuple[str, str]]
    ) -> dict[int, Annotation]:
        """What belongs to each image; rows where that cannot be used go to ``bad``."""
        said: dict[int, Annotation] = {}
        if not self._columns:
            return said
        missing = [name for name in self._columns if name not in table.column_names]
        if missing:
            raise ConfigError(
                f"augment.Apply moves {missing[0]!r} with the images, but there is no such column",
                hint="name it under columns: of the source",
            )
        from augment.annotations import BadAnnotationError, parse

        for row, image in zip(rows, images, strict=True):
            value = {
                what: table.column(name)[row].as_py() if name else None
                for what, name in (("mask", self.mask), ("boxes", self.boxes), ("keypoints", self.keypoints))
            }
            try:
                said[row] = parse(image.shape, self.box_format, **value)
            except BadAnnotationError as error:
                bad[row] = (error.rule, error.reason)
        return said

    def _augmented(
        self,
        table: pa.Table,
        rows: list[int],
        images: list[Pixels],
        said: dict[int, Annotation],
        pool: ThreadPoolExecutor,
    ) -> list[list[_Copy]]:
        """For each image its copies."""
        from augment import rng
        from augment.engine import cpu
        from lake.images import encode

        ids = rng.halves(table.column("_id").take(pa.array(rows, pa.int64())))
        copies: list[list[_Copy]] = [[] for _ in rows]
        for epoch in range(1, self.copies + 1):
            policy = self.resolved.at(epoch)
            programs = policy.draw(ids, self.seed, epoch)
            how: dict[str, Any] = {"space": policy.space, "resampling": policy.resampling}
            if said:
                results, moved = self._moved(images, programs, [said[row] for row in rows], how)
            else:
                results, moved = cpu.execute(images, programs, **how), [{} for _ in rows]
            for place, (blob, program) in enumerate(zip(pool.map(encode, results), programs, strict=True)):
                copies[place].append(_Copy(blob, policy.describe(program), moved[place]))
        return copies

    def _moved(
        self, images: list[Pixels], programs: Programs, said: list[Annotation], how: dict[str, Any]
    ) -> tuple[list[Pixels], list[dict[str, Any]]]:
        """The images, and of each the columns that moved with it."""
        from augment.annotations import targets, write
        from augment.engine import cpu
        from lake.images import encode

        results, moved = cpu.execute(
            images, programs, targets=targets(said, self.box_format, self.least_visible), **how
        )
        columns = []
        for i, row in enumerate(said):
            boxes, keypoints = write(row, moved, i)
            mask = None if row.mask is None else encode(moved.masks[i])
            named = {self.mask: mask, self.boxes: boxes, self.keypoints: keypoints}
            columns.append({name: value for name, value in named.items() if name})
        return results, columns

    def _assembled(
        self, table: pa.Table, made: dict[int, list[_Copy]], bad: dict[int, tuple[str, str]]
    ) -> pa.Table:
        """Each kept row, followed by its copies."""
        origin: list[int] = []
        numbers: list[int] = []
        words: list[str | None] = []
        renewed: dict[str, list[Any]] = {"image": [], **{name: [] for name in self._columns}}
        columns = {name: table.column(name) for name in renewed}
        for row in range(table.num_rows):
            if row in bad:
                continue
            copies = made.get(row, [])
            origin += [row] * (1 + len(copies))
            numbers += range(1 + len(copies))
            words += [None, *(copy.words for copy in copies)]
            renewed["image"] += [columns["image"][row].as_py(), *(copy.image for copy in copies)]
            for name in self._columns:
                renewed[name] += [columns[name][row].as_py(), *(copy.moved[name] for copy in copies)]
        # Images are not repeated by `take`: copies of them would be made only to be replaced.
        rows = table.drop_columns(list(renewed)).take(pa.array(origin, pa.int64()))
        for place, field in enumerate(table.schema):
            if field.name in renewed:
                values = renewed[field.name]
                if field.name in (self.boxes, self.keypoints) and _is_whole(field.type):
                    values = _rounded(values)
                rows = rows.add_column(place, field, pa.array(values, field.type))
        return _with_copies(rows, np.array(numbers, np.int32), words)


def _is_whole(kind: pa.DataType) -> bool:
    """Whether the numbers in lists of lists are integers."""
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind))


def _rounded(values: Any) -> Any:
    """Numbers in nested lists, rounded half up."""
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return math.floor(values + 0.5) if isinstance(values, float) else values


def _with_copies(
    rows: pa.Table, numbers: npt.NDArray[np.int32], words: Sequence[str | None] | None
) -> pa.Table:
    copy, augmented = COPY_FIELDS
    said = pa.nulls(rows.num_rows, pa.string()) if words is None else pa.array(words, pa.string())
    return rows.append_column(copy, pa.array(numbers, pa.int32())).append_column(augmented, said)


def _dropped(table: pa.Table, bad: dict[int, tuple[str, str]]) -> pa.Table:
    if not bad:
        return schema.no_drops()
    positions = sorted(bad)
    rules = pa.array([bad[row][0] for row in positions], pa.string())
    details = pa.array([bad[row][1] for row in positions], pa.string())
    rows = table.drop_columns(["image"]).take(pa.array(positions, pa.int64()))
    return schema.drops(rows, rules, detail=details)


def _decoded(
    table: pa.Table, bad: dict[int, tuple[str, str]], pool: ThreadPoolExecutor
) -> Iterator[tuple[list[int], list[Pixels]]]:
    """The rows with images, decoded, in groups of bounded size; what cannot be read goes to ``bad``."""
    column = table.column("image")
    present = [row for row in range(table.num_rows) if column[row].is_valid]
    rows: list[int] = []
    images: list[Pixels] = []
    held = 0
    # A few at a time, because a small file can hold many pixels.
    for start in range(0, len(present), 2 * _MOST_THREADS):
        some = present[start : start + 2 * _MOST_THREADS]
        for row, image in zip(some, pool.map(_decode, (column[row].as_py() for row in some)), strict=True):
            if isinstance(image, tuple):
                bad[row] = image
                continue
            rows.append(row)
            images.append(image)
            held += image.nbytes
        if held >= _PIXEL_BYTES:
            yield rows, images
            rows, images, held = [], [], 0
    if rows:
        yield rows, images


def _decode(blob: bytes) -> Pixels | tuple[str, str]:
    """The pixels, or the rule and the reason."""
    from lake.images import BadImageError, decode

    try:
        return decode(blob)
    except BadImageError as error:
        return error.rule, error.reason
