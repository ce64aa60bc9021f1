"""Near-duplicate images: the step that drops them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from dedup import keep as keeping
from dedup import sketch as sketching
from dedup.image import hashes as hashing
from dedup.image import near
from dedup.image.decoding import decoded
from dedup.keep import Keep
from dedup.match import Match
from dedup.pairs import MOST, renumbered
from dedup.select import Edges
from dedup.sketch import BAND, Corpus
from lake.machine import cores
from lake.native import kernels
from lake.parallel import in_chunks

__all__ = ["PHash"]

_verify_kernels = kernels("dedup.image._verify_kernels")

SPEC = 2
"""Version of the hashes and of the thumbnail; sketches of another one are refused."""

_BITS = 64
_CHUNK = 1 << 9  # pairs that a thread verifies at a time
_BATCH_BYTES = 1 << 26  # of decoded pixels that are held at a time
_REACH = 64  # how far an edge may lie inside, in 1/512 of a side: 12.5 %

Rows = npt.NDArray[np.int64]


class PHash(Match):
    """Drop an image where a kept one looks the same: a perceptual hash finds candidates, pixels decide.

    >>> PHash().explain()
    'pHash at most 8 of 64 bits apart, margins of 6 % or none; thumbnails alike to 0.99 when laid edge on edge'

    Two images are candidates if their hashes differ in at most ``radius`` bits (:mod:`dedup.image.near` finds
    every such pair), or with ``crops`` the hash of one and that of a window of the other. Hashes, windows and
    thumbnails are defined in :mod:`dedup.image.hashes`. A candidate is a duplicate if the thumbnails are alike:

    - *Likeness* is the lesser of Pearson's correlation of the grey values, and of 1 - the mean absolute
      difference of the stored colour values (as shares of 255), brought to one contrast.
      So the same garment in red and in blue are two.
    - With ``crops`` one thumbnail is also laid over the other: its four edges are moved inwards or outwards by
      up to an eighth of a side, as long as the correlation grows, in halving steps from the window that the
      hashes tell. What lies outside is left out, and the greater likeness counts. A pair that is far from the
      threshold after the first steps is given up.
    - With ``flips`` or ``rotations`` the best of the orientations counts.

    Flat images, and rows whose image is null or cannot be decoded, are never duplicates. Of more than
    :data:`dedup.pairs.MOST` images with one and the same hash those that come later in keep order are compared
    with the first ``MOST``. The rule of who goes stands in :mod:`dedup.select`.
    """

    wide_columns: ClassVar[tuple[str, ...]] = ("thumbnail",)

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.99
    """The least likeness of two thumbnails of which one goes (benchmarks/results/phash.md)."""
    radius: Annotated[int, Field(ge=0, le=31)] = 8
    """The most bits in which the hashes of duplicates differ."""
    hash: Literal["phash", "dhash"] = "phash"
    """Low frequencies (pHash) or gradients (dHash), 64 bits either."""
    crops: bool = True
    """Whether an image of which up to about a tenth was cut off at any side is the same image."""
    flips: bool = False
    """Whether an image that is mirrored, left to right or upside down, is the same image."""
    rotations: bool = False
    """Whether an image that is turned by quarters is the same image; with ``flips`` also one that is both."""
    keep: Keep = ("-pixels", "_id")
    """The keep order. ``pixels`` is height times width where no column has that name."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where hashes are computed; they are the same."""

    def explain(self) -> str:
        """Say in one line what is found."""
        name = {"phash": "pHash", "dhash": "dHash"}[self.hash]
        also = ", margins of 6 % or none" if self.crops else ""
        turned = {(1, 0): "mirrored", (0, 1): "turned", (1, 1): "mirrored or turned"}
        turns = turned.get((self.flips, self.rotations))
        return (
            f"{name} at most {self.radius} of {_BITS} bits apart{also}; thumbnails alike to "
            f"{self.threshold:g}{' when laid edge on edge' if self.crops else ''}"
            f"{f'; {turns} images count as the same' if turns else ''}"
        )

    @property
    def turns(self) -> tuple[int, ...]:
        """The orientations that are compared, by the numbers of :mod:`dedup.image.hashes`."""
        if self.flips and self.rotations:
            return (0, 1, 2, 3, 4, 5, 6, 7)
        return (0, *((1, 2) if self.flips else ()), *((3, 5, 6) if self.rotations else ()))

    def sketch(self, table: pa.Table) -> pa.Table:
        """Give hashes, thumbnail and keep columns of each row that has an image.

        Returns:
            ``_id``; ``hash``: its 64 bits as int64; ``band_00`` ...: the hashes of other orientations and
            windows; ``thumbnail``: fixed_size_binary; the keep columns as ``keep_<name>``.

        Raises:
            ConfigError: a column of the keep order is missing or has no order.
            SchemaError: the table has no column ``image``, or it holds no bytes.
            DeviceError: device cuda without a GPU.
        """
        found, pixels = [], []
        parts = [self._describe([])]
        for numbers, images in decoded(table, "PHash", _BATCH_BYTES):
            part = self._describe(images)
            found += [number for number, good in zip(numbers, part.good, strict=True) if good]
            pixels += [
                image.shape[0] * image.shape[1] for image, good in zip(images, part.good, strict=True) if good
            ]
            parts.append(part)
        hashes = np.concatenate([part.hashes[part.good] for part in parts]).view(np.int64)
        thumbnails = np.concatenate([part.thumbnails[part.good] for part in parts])
        rows = table.take(pa.array(found, pa.int64()))
        columns = {
            "_id": rows.column("_id").cast(pa.string()),
            "hash": pa.array(hashes[:, 0]),
            **{BAND.format(k): pa.array(column) for k, column in enumerate(hashes.T[1:])},
            "thumbnail": pa.Array.from_buffers(
                pa.binary(hashing.BYTES), len(found), [None, pa.py_buffer(thumbnails)]
            ),
            **keeping.columns(rows, self.keep, {"pixels": lambda: pa.array(pixels, pa.int64())}),
        }
        return sketching.label(pa.table(columns), self.settings())

    def candidates(
        self, corpus: Corpus, fresh: npt.NDArray[np.bool_] | None = None, threads: int = 1
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], int]:
        """Give every pair within the radius, see :meth:`dedup.match.Match.candidates`."""
        hashes = self._hashes(corpus)
        crowded, largest = _crowded(hashes[:, 0])
        turned = hashes[:, : len(self.turns)]
        whole = np.delete(hashes, np.s_[1 : len(self.turns)], axis=1)
        everyone = np.arange(len(corpus))
        asked = [(everyone, everyone[~crowded]), (everyone[~crowded], everyone[crowded])]
        if fresh is not None:
            asked = [pair for x, y in asked for pair in ((x[fresh[x]], y), (x[~fresh[x]], y[fresh[y]]))]
        pairs = [
            near.near(near.Codes.of(turned, x), near.Codes.of(whole, y), self.radius, threads) for x, y in asked
        ]
        left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
        codes = np.unique((left * len(corpus) + right)[~crowded[left]])
        left, right = np.divmod(codes, max(len(corpus), 1))
        return left.astype(np.int32), right.astype(np.int32), largest

    def displaced(self, corpus: Corpus, fresh: npt.NDArray[np.bool_]) -> bool:
        """See :meth:`dedup.match.Match.displaced`: among the first of very many images with one hash."""
        hashes = self._hashes(corpus)[:, 0]
        crowded, _ = _crowded(hashes)
        return bool(np.isin(hashes[fresh & ~crowded], hashes[crowded]).any())

    def verify(
        self, corpus: Corpus, left: npt.NDArray[np.int32], right: npt.NDArray[np.int32], threads: int = 1
    ) -> Edges:
        """See :meth:`dedup.match.Match.verify`."""
        used, x, y = renumbered(left, right, len(corpus))
        [(places, _)], held = corpus.wide(used, "thumbnail")
        hashes, turns = self._hashes(corpus)[used], np.array(self.turns, np.int64)
        exact, apart = np.empty(len(left), np.float64), np.empty(len(left), np.int64)
        how = (turns, self.radius, _REACH if self.crops else 0, float(self.threshold))

        def work(low: int, high: int) -> None:
            _verify_kernels.verify(
                x[low:high], y[low:high], places, hashes, *how, exact[low:high], apart[low:high]
            )

        in_chunks(threads, len(left), _CHUNK, work)
        del held  # until here the addresses had to stay good
        found = np.flatnonzero(exact >= self.threshold)
        estimated = 1.0 - apart[found] / _BITS
        return Edges(left[found].astype(np.int64), right[found].astype(np.int64), exact[found], estimated)

    @property
    def key_count(self) -> int:
        """None: :meth:`candidates` looks at all hashes."""
        return 0

    def settings(self) -> dict[str, object]:
        """See :class:`dedup.match.Match`."""
        return {
            "step": "dedup.PHash",
            "spec": SPEC,
            "radius": self.radius,
            "hash": self.hash,
            "turns": list(self.turns),
            "windows": self.crops,
        }

    def _describe(self, images: Sequence[hashing.Image]) -> hashing.Described:
        return hashing.describe_all(
            images, self.hash, turns=self.turns, windows=self.crops, device=self.device, threads=cores()
        )

    def _hashes(self, corpus: Corpus) -> npt.NDArray[np.uint64]:
        """All hashes of the rows in keep order, (rows, several)."""
        several = len(self.turns) + (hashing.WINDOWS - 1 if self.crops else 0)
        names = ["hash", *(BAND.format(k) for k in range(several - 1))]
        taken = [corpus.column(name).to_numpy()[corpus.order] for name in names]
        return np.stack(taken, axis=1).view(np.uint64)


def _crowded(hashes: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.bool_], int]:
    """Which rows have MOST or more rows with the same hash before them, and how many have the commonest."""
    order = np.argsort(hashes, kind="stable")
    starts = np.flatnonzero(np.diff(hashes[order], prepend=~hashes[order[:1]]))
    sizes = np.diff(starts, append=len(hashes))
    crowded = np.zeros(len(hashes), np.bool_)
    crowded[order] = np.arange(len(hashes)) - np.repeat(starts, sizes) >= MOST
    return crowded, int(sizes.max(initial=0))
