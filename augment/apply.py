"""The step that makes training copies with a policy."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, field_validator

from augment.policy import Policy
from augment.presets import preset
from lake import schema
from lake.errors import ConfigError
from lake.op import Op, Outcome

__all__ = ["COPY_FIELDS", "Apply"]

COPY_FIELDS = (pa.field("_copy", pa.int32()), pa.field("_augmented", pa.string()))
"""The columns that the step adds: 0 and null for an original; n and what was done, for its n-th copy."""

# Decoded pixels held at once, beside as much again for the augmented ones.
_PIXEL_BYTES = 64 << 20
_MOST_THREADS = 8

Pixels = npt.NDArray[Any]


class Apply(Op):
    """Give on every row, each one with an image followed by augmented copies of it.

    The originals pass untouched, with ``_copy`` = 0. Copy n is the policy's epoch n: the same row, id,
    label and metadata, with an augmented image (PNG, 8 or 16 bits as the original) and ``_augmented``, what
    was done, in words. What a copy looks like depends on the row's ``_id``, ``seed`` and n, on nothing else.
    A row without an image passes alone; one whose image cannot be read is dropped.

    Attributes:
        policy: a name of :data:`augment.presets.PRESETS`, or a policy (in a configuration, its fields).
        copies: how many per image.
        seed: of the draws.

    >>> Apply(policy="randaugment", copies=2).resolved.draws
    2
    """

    augments: ClassVar[bool] = True

    policy: str | Policy = "trivial_augment_wide"
    copies: Annotated[int, Field(ge=0, le=10_000)] = 1
    seed: Annotated[int, Field(ge=0, lt=1 << 64)] = 0

    @field_validator("policy")
    @classmethod
    def _known(cls, value: str | Policy) -> str | Policy:
        if isinstance(value, str):
            preset(value)
        return value

    @property
    def resolved(self) -> Policy:
        """The policy itself."""
        return preset(self.policy) if isinstance(self.policy, str) else self.policy

    def apply(self, table: pa.Table) -> Outcome:
        """Keep, and multiply, the rows; drop those whose image cannot be read.

        Raises:
            lake.errors.ConfigError: the rows are copies of an earlier step already.
        """
        if "_copy" in table.column_names:
            raise ConfigError(
                "augment.Apply after a step that has made copies already",
                hint="make the copies in one step: a policy can draw several ops (`draws`) for one image",
            )
        if "image" not in table.column_names or self.copies == 0:
            return Outcome(_with_copies(table, np.zeros(table.num_rows, np.int32), None), schema.no_drops())
        made: dict[int, list[tuple[bytes, str]]] = {}
        bad: dict[int, tuple[str, str]] = {}
        with ThreadPoolExecutor(_threads()) as pool:
            for rows, images in _decoded(table, bad, pool):
                made.update(zip(rows, self._augmented(table, rows, images, pool), strict=True))
        return Outcome(self._assembled(table, made, bad), _dropped(table, bad))

    def _augmented(
        self, table: pa.Table, rows: list[int], images: list[Pixels], pool: ThreadPoolExecutor
    ) -> list[list[tuple[bytes, str]]]:
        """For each image its copies: the encoded bytes and what was done."""
        from augment import cpu, rng
        from lake.images import encode

        policy = self.resolved
        ids = rng.halves(table.column("_id").take(pa.array(rows)))
        copies: list[list[tuple[bytes, str]]] = [[] for _ in rows]
        for epoch in range(1, self.copies + 1):
            programs = policy.draw(ids, self.seed, epoch)
            results = cpu.execute(images, programs, space=policy.space, resampling=policy.resampling)
            for place, (blob, program) in enumerate(zip(pool.map(encode, results), programs, strict=True)):
                copies[place].append((blob, policy.describe(program)))
        return copies

    def _assembled(
        self, table: pa.Table, made: dict[int, list[tuple[bytes, str]]], bad: dict[int, tuple[str, str]]
    ) -> pa.Table:
        """Each kept row, followed by its copies."""
        origin: list[int] = []
        numbers: list[int] = []
        blobs: list[bytes | None] = []
        words: list[str | None] = []
        originals = table.column("image")
        for row in range(table.num_rows):
            if row in bad:
                continue
            copies = made.get(row, [])
            origin += [row] * (1 + len(copies))
            numbers += range(1 + len(copies))
            blobs += [originals[row].as_py(), *(blob for blob, _ in copies)]
            words += [None, *(done for _, done in copies)]
        place = table.column_names.index("image")
        field = table.schema.field("image")
        # Images are not repeated by `take`: copies of them would be made only to be replaced.
        rest = table.drop_columns(["image"]).take(pa.array(origin, pa.int64()))
        rows = rest.add_column(place, field, pa.array(blobs, field.type))
        return _with_copies(rows, np.array(numbers, np.int32), words)


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


def _threads() -> int:
    """As many as this process may use; an engine that gives a worker fewer cores says so by OMP_NUM_THREADS."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    allowed = int(said) if said.isdigit() and int(said) > 0 else len(os.sched_getaffinity(0))
    return min(allowed, _MOST_THREADS)
