"""A run as passes over parts: how many tasks, how long each, how many bytes move.

The model, for a workload of S bytes in source files, cut into splits of P bytes:

- a *pass* has S / P tasks. A task computes for ``rate * P`` seconds on a core, reads a part and writes another;
- between passes the *driver* works alone: for the rows (ids, keep order, decision), for each part (its result,
  its line in the commit), and once a run;
- a match whose rows do not fit the driver's memory is shuffled: three passes more over its keys.

Everything in it that is a number is a field here or a rate of :mod:`pipeline.size.rates`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.size.rates import MEASURED, Kind, Rates

__all__ = ["MOST_ROWS", "Cluster", "Pass", "Workload", "memory_of_driver", "passes", "shuffles"]

MOST_ROWS = (1 << 31) - 1
"""Of one match: places in the keep order are int32 (``pipeline/matching/shuffle.py``)."""

_PACKED = {"text": 3.0, "image": 1.0}  # bytes of source for one of a part, about
_KEYS = {"text": 18, "image": 0}  # bands of dedup.MinHash at its defaults; dedup.PHash has none
_ROW_BYTES, _KEY_BYTES, _ID_BYTES = 200, 16, 100  # pipeline/matching/shuffle.py; docs/decisions.md
_BASE = 1 << 30
_SHARE = 0.4  # of the driver's memory that a match may fill


@dataclass(frozen=True)
class Workload:
    """What is to be done.

    Args:
        kind: ``text`` (filter, MinHash) or ``image`` (perceptual hash, copies).
        size: bytes of the source files.
        rows: how many records they hold.
        copies: training copies of each image.
        split: bytes of a unit of work, ``split_bytes`` of the source.
    """

    kind: Kind
    size: float
    rows: float
    copies: int = 1
    split: float = 64 << 20

    @property
    def parts(self) -> int:
        """Units of work of a pass."""
        return max(1, round(self.size / self.split))


@dataclass(frozen=True)
class Cluster:
    """Who does it.

    Args:
        nodes: machines.
        cores: of each.
        gpus: of each.
        memory: bytes of each.
        price: of a node for an hour, in whatever currency.
        bandwidth: bytes a second between a node and the storage.
        storage: bytes a second that the storage gives in all.
        dispatch: seconds of the driver to send out a task and take its result.
        per_part: seconds of the driver for a part in a commit.
        start: seconds until a node's workers have loaded the libraries.
        spread: standard deviation of the logarithm of a task's time: stragglers.
        failures: of a node, an hour.
        notice: seconds until the death of a node is noticed.
    """

    nodes: int = 1
    cores: int = 16
    gpus: int = 0
    memory: float = 64 << 30
    price: float = 0.8
    bandwidth: float = 1.25e9
    storage: float = 100e9
    dispatch: float = 0.0015
    per_part: float = 0.002
    start: float = 10.0
    spread: float = 0.25
    failures: float = 0.001
    notice: float = 10.0

    @property
    def slots(self) -> int:
        """Tasks at a time."""
        return self.nodes * self.cores


@dataclass(frozen=True)
class Pass:
    """Equal tasks, then work of the driver.

    Args:
        name: what the report calls it.
        tasks: how many.
        compute: seconds of a core for one task.
        moved: bytes that a task reads and writes.
        alone: seconds of the driver when they are done.
        sources: where the numbers were measured.
    """

    name: str
    tasks: int
    compute: float
    moved: float
    alone: float = 0.0
    sources: tuple[str, ...] = field(default=(), repr=False)


def memory_of_driver(work: Workload, *, shuffled: bool) -> float:
    """Bytes that the driver holds at its fullest: the ids of the new rows; the match, unless it is shuffled."""
    match = 8.0 if shuffled else _ROW_BYTES + _KEYS[work.kind] * _KEY_BYTES
    return _BASE + work.rows * max(_ID_BYTES, match)


def shuffles(work: Workload, cluster: Cluster) -> bool:
    """Whether the match is too large for the driver's memory, so that all nodes compare."""
    return work.rows * (_ROW_BYTES + _KEYS[work.kind] * _KEY_BYTES) > _SHARE * cluster.memory


def passes(work: Workload, cluster: Cluster | None = None, rates: Rates = MEASURED) -> tuple[Pass, ...]:
    """The passes of a run from nothing.

    Args:
        work: what.
        cluster: whose driver it is; its memory decides between one process and the shuffle.
        rates: what a gigabyte costs.
    """
    cluster = cluster or Cluster()
    parts, split = work.parts, work.size / work.parts
    packed = split / _PACKED[work.kind]

    def of(name: str) -> tuple[float, str]:
        rate = rates.of(work.kind, name)
        return rate.seconds * split / 1e9 + rate.fixed / parts, rate.source

    (read, read_source), (sketch, sketch_source), (write, write_source) = map(of, ("ingest", "sketch", "write"))
    driver = rates.of(work.kind, "driver")
    alone = driver.seconds * work.size / 1e9
    listed = parts * cluster.per_part
    written = packed * (1 + work.copies) if work.kind == "image" else packed
    made = write * (work.copies if work.kind == "image" else 1)
    keys = _KEYS[work.kind] * _KEY_BYTES * work.rows / parts
    found = [
        Pass(
            "ingest",
            parts,
            read,
            split + packed,
            driver.fixed + 0.5 * alone + listed,
            (read_source, driver.source),
        ),
        Pass("sketch", parts, sketch, packed + keys, 0.0, (sketch_source,)),
    ]
    if shuffles(work, cluster):
        # The comparison itself is part of the driver's rate: it is spread over the workers here.
        share = 0.5 * alone / parts
        found += [
            Pass(f"shuffle: {name}", parts, share / 3, 2 * keys, 0.0, (driver.source,))
            for name in ("keys", "buckets", "pairs")
        ]
    else:
        found[-1] = Pass("sketch", parts, sketch, packed + keys, 0.5 * alone, (sketch_source, driver.source))
    found.append(Pass("write", parts, made, packed + written, listed, (write_source,)))
    return tuple(found)
