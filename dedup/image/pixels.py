"""Images of the same pixels in other files: the step that drops them."""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from dedup import keep as keeping
from dedup import sketch as sketching
from dedup.image.decoding import decoded
from dedup.image.hashes import Image
from dedup.keep import Keep
from dedup.match import Match
from dedup.pairs import renumbered
from dedup.select import Edges
from dedup.sketch import Corpus
from lake.machine import cores
from lake.native import kernels
from lake.parallel import in_chunks

__all__ = ["Pixels", "digest"]

_verify_kernels = kernels("dedup.image._verify_kernels")

SPEC = 1
"""Version of the digest; sketches of another one are refused."""

_SIZE = 32  # bytes of a digest
_BATCH_BYTES = 1 << 26  # of decoded pixels that are held at a time
_CHUNK = 16  # images that a thread hashes at a time


class Pixels(Match):
    """Drop an image whose decoded pixels are those of a kept one, whatever the file format.

    >>> Pixels().explain()
    'images whose height, width, depth and every pixel are equal once decoded'

    What :func:`lake.images.decode` gives is compared: palettes are resolved, alpha is left out, and an EXIF
    orientation is not applied. Equal are images of the same height, width and depth (8 or 16 bits) with the
    same value everywhere. A colour image whose three channels are the same everywhere equals its grey image.
    The 16-bit image with 257 times the values of one of 8 bits is another one.

    Compared are BLAKE2b digests of 256 bits, see :func:`digest`. Rows whose image is null or cannot be decoded
    are never duplicates. The rule of who goes stands in :mod:`dedup.select`.
    """

    copies: ClassVar[bool] = True
    wide_columns: ClassVar[tuple[str, ...]] = ("digest",)

    threshold: Annotated[float, Field(ge=1, le=1)] = 1.0
    """Always 1: pixels are equal or not."""
    keep: Keep = ("_id",)
    """The keep order. ``pixels`` is height times width where no column has that name."""

    def explain(self) -> str:
        """Say in one line what is found."""
        return "images whose height, width, depth and every pixel are equal once decoded"

    def sketch(self, table: pa.Table) -> pa.Table:
        """Give the digest and the keep columns of each row that has an image.

        Returns:
            ``_id``; the key ``band_00``: the first 64 bits of the digest; ``digest``: fixed_size_binary of 32;
            the keep columns as ``keep_<name>``.

        Raises:
            ConfigError: a column of the keep order is missing or has no order.
            SchemaError: the table has no column ``image``, or it holds no bytes.
        """
        numbers: list[int] = []
        sizes: list[int] = []
        digests: list[bytes] = []
        for rows, images in decoded(table, "Pixels", _BATCH_BYTES):
            numbers += rows
            sizes += [image.shape[0] * image.shape[1] for image in images]
            digests += _digests(images)
        taken = table.take(pa.array(numbers, pa.int64()))
        keys = np.frombuffer(b"".join(each[:8] for each in digests), "<u8").astype(np.uint64)
        columns = {
            "_id": taken.column("_id").cast(pa.string()),
            **sketching.band_columns(keys[None, :], np.ones(len(keys), np.bool_)),
            "digest": pa.array(digests, pa.binary(_SIZE)),
            **keeping.columns(taken, self.keep, {"pixels": lambda: pa.array(sizes, pa.int64())}),
        }
        return sketching.label(pa.table(columns), self.settings())

    def verify(
        self, corpus: Corpus, left: npt.NDArray[np.int32], right: npt.NDArray[np.int32], threads: int = 1
    ) -> Edges:
        """See :meth:`dedup.match.Match.verify`."""
        used, x, y = renumbered(left, right, len(corpus))
        [(places, _)], held = corpus.wide(used, "digest")
        same = np.empty(len(left), np.bool_)
        in_chunks(
            threads,
            len(left),
            1 << 16,
            lambda a, b: _verify_kernels.equal(x[a:b], y[a:b], places, _SIZE, same[a:b]),
        )
        del held  # until here the addresses had to stay good
        found = np.flatnonzero(same)
        ones = np.ones(len(found))
        return Edges(left[found].astype(np.int64), right[found].astype(np.int64), ones, ones)

    @property
    def key_count(self) -> int:
        """See :class:`dedup.match.Match`."""
        return 1

    def settings(self) -> dict[str, object]:
        """See :class:`dedup.match.Match`."""
        return {"step": "dedup.Pixels", "spec": SPEC}


def digest(image: Image) -> bytes:
    """Give the BLAKE2b digest of height, width, channels, bytes a value (uint32 each) and the pixels: 32 bytes.

    All in little-endian order, row by row, channels together; of a colour image that is grey, the one channel.

    >>> grey = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    >>> digest(grey) == digest(np.repeat(grey, 3, axis=2)), digest(grey) == digest(grey.reshape(3, 2, 1))
    (True, False)

    Args:
        image: uint8 or uint16 of shape (h, w, 1) or (h, w, 3).
    """
    first = image[:, :, :1]
    if image.shape[2] > 1 and (image[:, :, 1:] == first).all():
        image = first
    head = np.array([*image.shape, image.dtype.itemsize], "<u4").tobytes()
    pixels = np.ascontiguousarray(image, image.dtype.newbyteorder("<"))
    return hashlib.blake2b(head + pixels.tobytes(), digest_size=_SIZE).digest()


def _digests(images: list[Image]) -> list[bytes]:
    found = [b""] * len(images)

    def work(low: int, high: int) -> None:
        found[low:high] = map(digest, images[low:high])

    in_chunks(cores(), len(images), _CHUNK, work)
    return found
