"""The sample of an audit: rows that hold similar pairs, drawn without the keys under test.

A uniform sample of a million texts holds hardly a pair of similar ones. So half of the sample is uniform, and
half comes from groups of rows that meet by a *probe*: a key that similar rows are likely to share and that has
nothing to do with those of the match. That is the least shingle hash under another permutation, the sides of
other hyperplanes, or some bits of the hash of an image. Of the rows that meet another, each is as likely to be
drawn: so a family weighs by its rows, not by its pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.image.phash import PHash
from dedup.match import Match
from dedup.text.match import TextMatch
from dedup.text.signatures import signatures
from dedup.vector import planes, vectors
from dedup.vector.cosine import Cosine
from lake.machine import cores

__all__ = ["Sampler", "mix", "probe"]

Keys = npt.NDArray[np.uint64]
_NONE = np.uint64(0xFFFFFFFFFFFFFFFF)
"""The probe of a row that is compared with none."""

_UNTOUCHED = 0xFFFFFFFF
_PLANES = 32
_CELL = 8  # rows of one group that are drawn together
_BITS = 64


def mix(x: Keys) -> Keys:
    """Scatter 64-bit values: splitmix64's finaliser (Steele, Lea and Flood 2014).

    >>> int(mix(np.array([0], np.uint64))[0]) == 0xE220A8397B1DCDAF
    True
    """
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _other(seed: int, used: int) -> int:
    """A seed below 2**32 that is not the one that is used."""
    made = int(mix(np.array([seed], np.uint64))[0]) & 0xFFFFFFFF
    return made if made != used else made ^ 1


def probe(match: Match, table: pa.Table, seed: int) -> Keys | None:
    """Give the probe of each row, :data:`_NONE` where it has none; None for a kind of match that has no probe.

    A probe of image hashes or hyperplanes is to be cut by the sampler before it is compared.

    Args:
        match: the step.
        table: rows, as the step would get them.
        seed: below 2**64.

    Returns:
        uint64, shape (rows,).
    """
    out = np.full(table.num_rows, _NONE, np.uint64)
    if isinstance(match, TextMatch):
        other = _other(seed, getattr(match, "seed", 0))
        least = signatures(table.column("text"), 1, other, match.ngram, match.unit, threads=cores())[:, 0]
        there = least != _UNTOUCHED
        out[there] = least[there]
    elif isinstance(match, PHash):
        sketch = match.sketch(table)
        place = pc.index_in(sketch.column("_id"), value_set=table.column("_id").cast(pa.string())).to_numpy()
        out[place] = sketch.column("hash").to_numpy().view(np.uint64)
    elif isinstance(match, Cosine):
        found = vectors.read(table.column(match.column), table.column("_id").cast(pa.string()), "Cosine")
        out[found.rows] = planes.keys(found.values, 1, _PLANES, _other(seed, match.seed))[0]
    else:
        return None
    return out


def _narrow(match: Match, keys: Keys, count: int, seed: int) -> Keys:
    """Cut probes of images or embeddings to as many bits, drawn by the seed, as tell ``count`` rows apart."""
    if isinstance(match, TextMatch):
        return keys
    held = _BITS if isinstance(match, PHash) else _PLANES
    wanted = min(held, max(4, count.bit_length()))
    chosen = np.argsort(mix(np.arange(held, dtype=np.uint64) ^ mix(np.array([seed], np.uint64))))[:wanted]
    mask = np.bitwise_or.reduce(np.uint64(1) << chosen.astype(np.uint64))
    return np.where(keys == _NONE, _NONE, keys & mask)


def _words(match: Match) -> str:
    """What rows of a group have in common, in words."""
    if isinstance(match, TextMatch):
        return "the least shingle hash under a permutation that the step does not use"
    if isinstance(match, PHash):
        return "a few bits of the hash, drawn at random"
    return "the side of a few hyperplanes that the step does not use"


@dataclass
class Sampler:
    """Draws the sample of an audit from tables that come one after the other; holds 24 bytes a row.

    Args:
        match: the step to be audited.
        rows: of the sample, at most.
        seed: of the sample.
    """

    match: Match
    rows: int = 2000
    seed: int = 0
    count: int = field(default=0, init=False)
    """Rows seen."""
    uniform: int = field(default=0, init=False)
    """Rows that :meth:`draw` drew uniformly."""
    drawn: int = field(default=0, init=False)
    """Rows that it drew in all."""
    _ids: list[npt.NDArray[np.uint64]] = field(default_factory=list, init=False, repr=False)
    _keys: list[npt.NDArray[np.uint64] | None] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.rows < 2:  # noqa: PLR2004  (a pair)
            raise ValueError(f"a sample of {self.rows} rows holds no pair: take 2 or more")

    def add(self, table: pa.Table) -> None:
        """See some rows, each ``_id`` once over all calls."""
        self.match.sketch(table.slice(0, 0))  # so that a table that does not fit is refused by the match
        raw = bytes.fromhex("".join(table.column("_id").to_pylist()))
        self._ids.append(np.frombuffer(raw, ">u8").reshape(-1, 2).astype(np.uint64))
        self._keys.append(probe(self.match, table, self.seed))
        self.count += table.num_rows

    def draw(self) -> pa.Array:
        """Give the ids of the sample."""
        ids = np.concatenate([np.empty((0, 2), np.uint64), *self._ids])
        salt = mix(np.array([self.seed], np.uint64))
        rank = mix(ids[:, 0] ^ mix(ids[:, 1] ^ salt))
        order = np.argsort(rank, kind="stable")
        self.uniform = min(self.count, self.rows if self.count <= self.rows else self.rows // 2)
        chosen = np.zeros(self.count, np.bool_)
        chosen[order[: self.uniform]] = True
        if self.uniform < self.count:
            near = self._near(rank)
            chosen[near[~chosen[near]][: self.rows - self.uniform]] = True
            more = order[~chosen[order]][: self.rows - np.count_nonzero(chosen)]
            chosen[more] = True  # too few groups: more uniform ones
            self.uniform += len(more)
        self.drawn = int(np.count_nonzero(chosen))
        return pa.array([f"{high:016x}{low:016x}" for high, low in ids[chosen].tolist()], pa.string())

    def _near(self, rank: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Rows of groups with one probe, group after group in an order that the seed gives."""
        if not self._keys or any(each is None for each in self._keys):
            return np.empty(0, np.int64)
        probed = np.concatenate([each for each in self._keys if each is not None])
        keys = _narrow(self.match, probed, self.count, self.seed)
        rows = np.flatnonzero(keys != _NONE)
        group = mix(keys[rows] ^ np.uint64(self.seed))
        order = np.lexsort((rank[rows], group))
        rows, group = rows[order], group[order]
        starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]]) if len(rows) else np.empty(0, np.int64)
        place = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
        # A crowded group is cut into cells, so that each row of a group is as likely to be drawn as any other.
        cell = mix(group + (place // _CELL).astype(np.uint64))
        _, at, sizes = np.unique(cell, return_inverse=True, return_counts=True)
        order = np.argsort(cell, kind="stable")
        near: npt.NDArray[np.int64] = rows[order][sizes[at][order] > 1]
        return near

    def words(self) -> str:
        """How the sample was drawn."""
        if self.drawn == self.count:
            return "All rows were taken: nothing is estimated."
        text = (
            f"Of {self.count:,} rows {self.uniform:,} were drawn uniformly, by their ids, which are hashes of "
            "their content."
        )
        if near := self.drawn - self.uniform:
            text += (
                f" {near:,} come from groups of rows that share {_words(self.match)}: up to {_CELL} rows of a "
                "group at a time, so that each row of a group is as likely to be drawn as any other."
            )
        return text

    def limits(self) -> tuple[str, ...]:
        """What the numbers cannot say."""
        families = (
            "Pairs of one family are found or missed together: an interval (95 %) counts families, not pairs."
        )
        if self.drawn == self.count:
            return (families,)
        return (
            families,
            "The sample is richer in similar pairs than the data: counts do not scale up.",
            "A large family has fewer pairs here than in the data, so the recall of all pairs may be another.",
            "Duplicates dropped and shares by similarity hold for the data.",
            "In the data a crowded bucket is compared with its first rows alone; few are in the sample.",
        )
