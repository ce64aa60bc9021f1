"""What was forgotten: the table ``_forgotten``, which every ingest asks before it keeps a row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake.errors import ConcurrentRunError
from lake.schema import drops

if TYPE_CHECKING:
    from lake.lake import Lake

__all__ = ["APP", "FORGOTTEN", "RULE", "TABLE", "Known", "check", "digest", "ledger_rows", "times"]

TABLE = "_forgotten"
APP = "forget"
"""Under what name the commits are that forget."""
RULE = "forgotten"
FORGOTTEN = pa.schema(
    [
        pa.field("digest", pa.string(), nullable=False),  # of the `_id`: see :func:`digest`
        pa.field("reason", pa.string()),
        pa.field("made", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""The ``_forgotten`` table: no id, no content, no place."""

_PERSON = b"gristmill-forgot"


def digest(id_: str) -> str:
    """32 hex digits that tell a forgotten ``_id`` again, and from which it cannot be computed back.

    >>> digest("0" * 32) == digest("0" * 32), digest("0" * 32) == "0" * 32
    (True, False)
    """
    return hashlib.blake2b(id_.encode(), digest_size=16, person=_PERSON).hexdigest()


class Known:
    """The digests of all that a lake has forgotten, at the time of asking.

    Args:
        digests: with when and why; empty where nothing was forgotten, which costs nothing to ask.
    """

    def __init__(self, digests: dict[str, tuple[datetime, str | None]]) -> None:
        self.digests = digests

    @classmethod
    def of(cls, lake: Lake) -> Known:
        """What a lake has forgotten; of one that was forgotten twice the first time counts."""
        table = lake.table(TABLE)
        found: dict[str, tuple[datetime, str | None]] = {}
        for row in table.to_table().sort_by("made").to_pylist() if table.exists else ():
            found.setdefault(row["digest"], (row["made"], row["reason"]))
        return cls(found)

    def __bool__(self) -> bool:
        return bool(self.digests)

    def __contains__(self, id_: str) -> bool:
        return digest(id_) in self.digests

    def among(self, ids: Iterable[str | None]) -> set[str]:
        """Those of the ids that were forgotten."""
        if not self.digests:
            return set()
        return {each for each in ids if each is not None and digest(each) in self.digests}

    def mask(self, ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
        """Of each id whether it was forgotten, shape (n,)."""
        gone = self.among(ids.unique().to_pylist())
        found: npt.NDArray[np.bool_] = np.zeros(len(ids), np.bool_)
        if gone:
            there = pc.is_in(ids, value_set=pa.array(sorted(gone), ids.type))
            found = np.asarray(there.to_numpy(zero_copy_only=False) if isinstance(there, pa.Array) else there)
        return found


def times(lake: Lake) -> int | None:
    """How often rows were forgotten in a lake; None if never."""
    return lake.table(TABLE).transaction_version(APP)


def check(lake: Lake, before: int | None) -> None:
    """Raise where rows were forgotten since ``before``, which is what :func:`times` said then.

    Locks keep runs and forgetting apart; in an object store a process that was frozen may have lost them.

    Raises:
        ConcurrentRunError: they were; whoever has read rows since may have read these.
    """
    if times(lake) != before:
        raise ConcurrentRunError(
            "rows were forgotten during the run",
            where=lake.uri,
            why="it was frozen and has lost its locks, and may have read such a row before",
            hint="run again",
        )


def ledger_rows(rows: pa.Table) -> pa.Table:
    """The drops (``schema.DROPS``) of forgotten rows: where each stood and its digest, nothing of it.

    The place stays, since whoever was asked to forget a row has to take it out of that file too.

    Args:
        rows: with ``_id`` and ``_source``.
    """
    bare = rows.select(["_source"])
    nothing = pa.nulls(rows.num_rows, pa.string())
    named = pa.array([digest(each) for each in rows.column("_id").to_pylist()], pa.string())
    return drops(bare, RULE, _id=nothing, detail=named)
