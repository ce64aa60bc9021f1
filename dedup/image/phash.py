"""Near-duplicate images: the step that drops them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from dedup import keep as keeping
from dedup import sketch as sketching
from dedup.image import hashes as hashing
from dedup.keep import Keep
from dedup.match import Match
from dedup.select import Edges
from dedup.sketch import Corpus
from lake.errors import SchemaError
from lake.parallel import in_chunks

__all__ = ["PHash"]

SPEC = 1
"""Version of the hash and of the thumbnail; sketches of another one are refused."""

_BITS = 64
_CHUNK = 1 << 12  # pairs that a thread verifies at a time


class PHash(Match):
    """Drop an image where a kept one looks the same: a perceptual hash finds candidates, pixels decide.

    >>> PHash().explain()
    'hashes at most 8 of 64 bits apart, and thumbnails alike to 0.99: every such pair is found'

    Two images are candidates if their hashes differ in at most ``radius`` bits; since one of
    ``radius + 1`` stretches of bits is then equal, banding finds all of them. A candidate is a
    duplicate if the thumbnails are alike; both are defined in :mod:`dedup.image.hashes`, the rule of who
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
            ``_id``; ``hash``: its 64 bits as int64; ``thumbnail``: fixed_size_binary; the keys ``band_00`` ...;
            the keep columns as ``keep_<name>``.

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
        hashes = np.array([code for _, _, code, _ in found], np.uint64)
        keys = np.stack(list(_stretches(hashes, self.radius + 1)))
        thumbnails = b"".join(thumbnail.tobytes() for *_, thumbnail in found)
        columns = {
            "_id": rows.column("_id").cast(pa.string()),
            "hash": pa.array(hashes.view(np.int64)),
            "thumbnail": pa.Array.from_buffers(
                pa.binary(hashing.BYTES), len(found), [None, pa.py_buffer(thumbnails)]
            ),
            **sketching.band_columns(keys, np.ones(len(found), np.bool_)),
            **keeping.columns(
                rows, self.keep, {"pixels": lambda: pa.array([pixels for _, pixels, *_ in found], pa.int64())}
            ),
        }
        return sketching.label(pa.table(columns), self.settings())

    def verify(
        self, corpus: Corpus, left: npt.NDArray[np.int32], right: npt.NDArray[np.int32], threads: int = 1
    ) -> Edges:
        """See :meth:`dedup.match.Match.verify`."""
        from dedup.image._kernels import verify

        hashes = corpus.column("hash").to_numpy().view(np.uint64)[corpus.order]
        apart = np.bitwise_count(hashes[left] ^ hashes[right])
        near = np.flatnonzero(apart <= self.radius)
        left, right, apart = left[near], right[near], apart[near]
        used = np.unique(np.concatenate([left, right])).astype(np.int64)
        [(places, _)], held = corpus.wide(used, "thumbnail")
        x, y = (np.searchsorted(used, side).astype(np.int32) for side in (left, right))
        exact = np.empty(len(left), np.float64)
        in_chunks(
            threads,
            len(left),
            _CHUNK,
            lambda a, b: verify(x[a:b], y[a:b], places, float(self.threshold), exact[a:b]),
        )
        del held  # until here the addresses had to stay good
        found = np.flatnonzero(exact >= self.threshold)
        estimated = 1.0 - apart[found] / _BITS
        return Edges(left[found].astype(np.int64), right[found].astype(np.int64), exact[found], estimated)

    @property
    def key_count(self) -> int:
        """See :class:`dedup.match.Match`."""
        return self.radius + 1

    def settings(self) -> dict[str, object]:
        """See :class:`dedup.match.Match`."""
        return {"step": "dedup.PHash", "spec": SPEC, "radius": self.radius}


def _described(column: pa.ChunkedArray) -> Iterator[tuple[int, int, int, npt.NDArray[np.uint8]]]:
    """(row, pixels, hash, thumbnail) of each image that has one."""
    from lake.images import BadImageError, decode

    for row in np.flatnonzero(pc.is_valid(column).to_numpy()).tolist():
        try:
            image = decode(column[row].as_py())
        except BadImageError:
            continue  # the step that needs its pixels drops it, with the reason
        described = hashing.describe(image)
        if described is not None:
            yield row, image.shape[0] * image.shape[1], *described


def _stretches(hashes: npt.NDArray[np.uint64], bands: int) -> Iterator[npt.NDArray[np.uint64]]:
    """The hash cut into ``bands`` stretches of bits: two that differ in fewer bits agree in one of them."""
    edges = np.linspace(0, _BITS, bands + 1).round().astype(int).tolist()
    for low, high in pairwise(edges):
        yield (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
