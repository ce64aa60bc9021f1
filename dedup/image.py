"""Near-duplicate images: the step that drops them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from dedup import keep as keeping
from dedup import phash, select
from dedup import sketch as sketching
from dedup.keep import Keep
from dedup.match import Drop
from lake.errors import SchemaError
from lake.op import Barrier, Op

__all__ = ["PHash"]

SPEC = 1
"""Version of the hash and of the thumbnail; sketches of another one are refused."""

_BITS = 64


class PHash(Barrier):
    """Drop an image where a kept one looks the same: a perceptual hash finds candidates, pixels decide.

    >>> PHash().explain()
    'hashes at most 8 of 64 bits apart, and thumbnails alike to 0.99: every such pair is found'

    Two images are candidates if their hashes differ in at most ``radius`` bits; since one of
    ``radius + 1`` stretches of bits is then equal, banding finds all of them. A candidate is a
    duplicate if the thumbnails are alike; both are defined in :mod:`dedup.phash`, the rule of who
    goes in :mod:`dedup.select`. Flat images, and rows whose image is null or cannot be decoded, are
    never duplicates.
    """

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.99
    """The least likeness of two thumbnails of which one goes (benchmarks/results/phash.md)."""
    radius: Annotated[int, Field(ge=0, le=31)] = 8
    """The most bits in which the hashes of duplicates differ."""
    keep: Keep = ("-pixels", "_id")
    """The keep order. ``pixels`` is height times width where no column has that name."""

    def explain(self) -> str:
        """Say in one line what is found."""
        return (
            f"hashes at most {self.radius} of {_BITS} bits apart, and thumbnails alike to {self.threshold:g}: "
            "every such pair is found"
        )

    def sketch(self, table: pa.Table) -> pa.Table:
        """Give hash, thumbnail and keep columns of each row that has an image.

        Returns:
            ``_id``; ``hash``: uint64; ``thumbnail``: fixed_size_binary; the keep columns as ``keep.<name>``.

        Raises:
            ConfigError: a column of the keep order is missing or has no order.
            SchemaError: the table has no column ``image``, or it holds no bytes.
        """
        if "image" not in table.schema.names:
            raise SchemaError("PHash needs a column image", hint="read images with lake.Files")
        kind = table.schema.field("image").type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind)):
            raise SchemaError(
                f"a column of type {kind} holds no images", hint="give the encoded files as binary"
            )
        found = list(_described(table.column("image")))
        rows = table.take(pa.array([row for row, *_ in found], pa.int64()))
        thumbnails = b"".join(thumbnail.tobytes() for *_, thumbnail in found)
        columns = {
            "_id": rows.column("_id").cast(pa.string()),
            "hash": pa.array([code for _, _, code, _ in found], pa.uint64()),
            "thumbnail": pa.Array.from_buffers(
                pa.binary(phash.BYTES), len(found), [None, pa.py_buffer(thumbnails)]
            ),
            **keeping.columns(
                rows, self.keep, {"pixels": pa.array([pixels for _, pixels, *_ in found], pa.int64())}
            ),
        }
        return sketching.label(pa.table(columns), self._settings())

    def resolve(self, sketches: Sequence[pa.Table]) -> pa.Table:
        """Decide who goes. See :mod:`dedup.select` for the rule.

        Args:
            sketches: of all rows, in any order and cut in any way; they may be memory-mapped files.

        Returns:
            A table of schema ``dedup.sketch.STATE``.

        Raises:
            SchemaError: a sketch was made with other settings or by another version.
        """
        sketching.check(sketches, self._settings())
        filled = [sketch for sketch in sketches if sketch.num_rows]
        if not filled:
            return sketching.STATE.empty_table()
        whole = pa.concat_tables(filled)  # by reference
        order = keeping.rank(whole.drop_columns(["hash", "thumbnail"]), self.keep)
        hashes = whole.column("hash").to_numpy()[order]
        places = sketching.fixed_addresses(whole.column("thumbnail"))[order]
        bands = self.radius + 1
        shared = select.buckets(_stretches(hashes, bands), bands, np.ones(len(order), np.bool_))
        chosen = select.images(shared, hashes, self.radius, places, self.threshold)
        apart = np.bitwise_count(hashes[chosen.dropped] ^ hashes[chosen.twin])
        estimated = 1.0 - apart / _BITS
        return sketching.state(
            whole.column("_id"), order, chosen, threshold=self.threshold, estimated=estimated
        )

    def bind(self, state: pa.Table) -> Op:
        """Give the op that drops the rows of a decision."""
        return Drop(state=state)

    def _settings(self) -> dict[str, object]:
        return {"step": "dedup.PHash", "spec": SPEC}


def _described(column: pa.ChunkedArray) -> Iterator[tuple[int, int, int, npt.NDArray[np.uint8]]]:
    """(row, pixels, hash, thumbnail) of each image that has one."""
    from lake.images import BadImageError, decode

    for row in np.flatnonzero(pc.is_valid(column).to_numpy()).tolist():
        try:
            image = decode(column[row].as_py())
        except BadImageError:
            continue  # the step that needs its pixels drops it, with the reason
        described = phash.describe(image)
        if described is not None:
            yield row, image.shape[0] * image.shape[1], *described


def _stretches(hashes: npt.NDArray[np.uint64], bands: int) -> Iterator[npt.NDArray[np.uint64]]:
    """The hash cut into ``bands`` stretches of bits: two that differ in fewer bits agree in one of them."""
    edges = np.linspace(0, _BITS, bands + 1).round().astype(int).tolist()
    for low, high in pairwise(edges):
        yield (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
