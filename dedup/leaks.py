"""Leakage: training rows whose twin is in the test set, so that a score says less than it seems to.

Only pairs of a training row with a test row matter: see :mod:`dedup.crossed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    ValidationError,
    WithJsonSchema,
)

import dedup
from dedup import keep as keeping
from dedup import sketch as sketching
from dedup.crossed import cross_edges
from dedup.match import STATE, Drop, Match
from dedup.result import with_ids
from dedup.sketch import Corpus, Piece
from dedup.text.minhash import MinHash
from lake.errors import SchemaError
from lake.op import Barrier, Op, Outcome

__all__ = ["LEAKS", "DropLeaks", "Leakage", "Leaks", "leakage"]

LEAKS = pa.schema(
    [
        pa.field("train", pa.string(), nullable=False),
        pa.field("test", pa.string(), nullable=False),
        pa.field("exact", pa.float64(), nullable=False),
        pa.field("estimated", pa.float64(), nullable=False),
        pa.field("train_label", pa.string()),
        pa.field("test_label", pa.string()),
    ]
)
"""A training row and a test row that are similar, each pair once. The most similar come first."""

_TEST, _TRAIN = "test:", "train:"  # before an _id, since one row may stand on both sides
_FIRST = "_side"  # the column that comes first in the keep order; "test:" is before "train:"
_SHOWN = 5
_Ints = npt.NDArray[np.int64]


def _marked(head: pa.Table, side: str) -> pa.Table:
    """Say in a sketch which side its rows are on: in their ids, and in the keep order."""
    ids = pc.binary_join_element_wise(side, head.column("_id").cast(pa.string()), "")
    marked = head.set_column(head.schema.get_field_index("_id"), "_id", ids)
    names = keeping.names([_FIRST])
    return marked.append_column(names[0], pa.repeat(side, head.num_rows))


def _corpus(match: Match, pieces: Sequence[Piece]) -> Corpus:
    """Number the rows of both sides, test rows first: if a match looks at the first of many only, at them."""
    return match.model_copy(update={"keep": (_FIRST, *match.keep)}).corpus(pieces)


def _of_test(corpus: Corpus) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = pc.starts_with(corpus.ids, _TEST).to_numpy(zero_copy_only=False)
    return found


def _named(corpus: Corpus, positions: _Ints, side: str) -> pa.Array:
    """The ids of some rows of one side, without the mark."""
    return pc.utf8_slice_codeunits(corpus.ids.take(pa.array(positions)).cast(pa.string()), len(side))


# ---------------------------------------------------------------- a notebook


@dataclass(frozen=True)
class Leaks:
    """What of a test set stands in the training set.

    Attributes:
        pairs: see :data:`LEAKS`.
        clean_train: the training rows without a twin in the test set, in their order, with ``_id``.
        train_rows: the number of training rows.
        test_rows: the number of test rows.
        leaking_train: the number of training rows that have a twin in the test set.
        leaking_test: the number of test rows that have a twin in the training set.
    """

    pairs: pa.Table
    clean_train: pa.Table
    train_rows: int
    test_rows: int
    leaking_train: int
    leaking_test: int

    @property
    def share(self) -> float:
        """The share of the test rows that leak, from 0 to 1."""
        return self.leaking_test / self.test_rows if self.test_rows else 0.0

    def __repr__(self) -> str:
        return (
            f"Leaks({self.leaking_test} of {self.test_rows} test rows leak, "
            f"by {self.leaking_train} of {self.train_rows} training rows)"
        )

    def _repr_html_(self) -> str:
        names = ("train", "test", "exact", "train_label", "test_label")
        cells = "".join(
            f"<tr><td><code>{escape(row['train'])}</code></td><td><code>{escape(row['test'])}</code></td>"
            f"<td>{row['exact']:.3f}</td><td>{escape(row['train_label'] or '')}</td>"
            f"<td>{escape(row['test_label'] or '')}</td></tr>"
            for row in self.pairs.slice(0, _SHOWN).to_pylist()
        )
        return (
            f"<div>{self.leaking_test:,} of {self.test_rows:,} test rows ({100 * self.share:.1f} %) leak, "
            f"by {self.leaking_train:,} of {self.train_rows:,} training rows</div>"
            f"<table><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>{cells}</table>"
        )


def leakage(train: pa.Table, test: pa.Table, match: Match) -> Leaks:
    """Find the training rows that have a twin in the test set.

    >>> words = [str(number) for number in range(100)]
    >>> train = pa.table({"text": [" ".join(words), "something else"], "label": ["a", "b"]})
    >>> test = pa.table({"text": [" ".join(words[:-1]), "unseen"], "label": ["a", "b"]})
    >>> leaks = leakage(train, test, MinHash(threshold=0.8))
    >>> leaks
    Leaks(1 of 2 test rows leak, by 1 of 2 training rows)
    >>> leaks.clean_train.column("text").to_pylist()
    ['something else']

    Args:
        train: records; ``_id`` is computed where it is missing.
        test: records, as well.
        match: what a twin is. Rows with an equal ``_id`` are twins for any match.

    Raises:
        SchemaError: there is neither ``text`` nor ``image``, nor ``_id``; a row has no ``_id``; labels are not
            strings or numbers; or there is not what the match looks at.
    """
    sides = [(with_ids(test), _TEST), (with_ids(train), _TRAIN)]
    pieces = [match.piece(rows) for rows, _ in sides]
    corpus = _corpus(
        match,
        [Piece(_marked(each.head, side), each.wide) for each, (_, side) in zip(pieces, sides, strict=True)],
    )
    mine, theirs, edges = cross_edges(match, corpus, _of_test(corpus))
    (tested, _), (trained, _) = sides
    ids = [rows.column("_id").cast(pa.string()) for rows in (trained, tested)]
    both = pc.unique(ids[0].filter(pc.is_in(ids[0], value_set=ids[1])))
    found = pa.table(
        {
            "train": _named(corpus, mine, _TRAIN),
            "test": _named(corpus, theirs, _TEST),
            "exact": edges.exact,
            "estimated": edges.estimated,
        }
    )
    found = found.filter(pc.not_equal(found.column("train"), found.column("test")))
    ones = pa.array(np.ones(len(both)))
    equal = pa.table({"train": both, "test": both, "exact": ones, "estimated": ones})
    found = pa.concat_tables([equal, found])
    for (rows, _), name in zip(sides, ("test", "train"), strict=True):
        found = found.append_column(name + "_label", _labels(rows, found.column(name)))
    order = [("exact", "descending"), ("train", "ascending"), ("test", "ascending")]
    leaks = [pc.is_in(side, value_set=found.column(name)) for side, name in zip(ids, LEAKS.names, strict=False)]
    return Leaks(
        pairs=found.select(LEAKS.names).cast(LEAKS).sort_by(order),
        clean_train=trained.filter(pc.invert(leaks[0])),
        train_rows=trained.num_rows,
        test_rows=tested.num_rows,
        leaking_train=pc.sum(leaks[0]).as_py() or 0,
        leaking_test=pc.sum(leaks[1]).as_py() or 0,
    )


def _labels(rows: pa.Table, ids: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The labels of some ids, as strings; of one that stands several times the first."""
    if "label" not in rows.schema.names:
        return pa.nulls(len(ids), pa.string())
    label = _words(rows.column("label"))
    if label is None:
        raise SchemaError(
            f"a label of type {rows.schema.field('label').type} cannot be told as a string",
            hint="give strings or numbers, or leave the column out",
        )
    return label.take(pc.index_in(ids, value_set=rows.column("_id").cast(pa.string())))


def _words(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Give a column as strings; None where that cannot be."""
    try:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # bytes that are not UTF-8; lists and structs
        return None


# ---------------------------------------------------------------- a pipeline


def _read_match(value: Any) -> Any:
    """Take a match as a configuration writes it: its name with its settings."""
    if not isinstance(value, dict):
        return value
    key = str(next(iter(value), ""))
    home, _, name = key.rpartition(".")
    if len(value) != 1 or home != "dedup" or name not in dedup.__all__ or not _is_match(name):
        known = [f"dedup.{each}" for each in dedup.__all__ if _is_match(each)]
        raise ValueError(f"give one match with its settings: {', '.join(known)}")
    try:
        return getattr(dedup, name).model_validate(value[key] or {})
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, (key, *wrong['loc'])))}: {wrong['msg']}") from None


def _is_match(name: str) -> bool:
    found = getattr(dedup, name)
    return isinstance(found, type) and issubclass(found, Match)


def _with_all_pairs(match: Match) -> Match:
    if match.walks:
        raise ValueError("this step looks at all pairs: give it the match without `pairs: twins`")
    return match


def _write_match(match: Match, info: SerializationInfo) -> dict[str, object]:
    cls = type(match)
    name = cls.__name__
    home = "dedup" if getattr(dedup, name, None) is cls else cls.__module__
    return {f"{home}.{name}": match.model_dump(mode=info.mode, exclude_defaults=info.exclude_defaults)}


AnyMatch = Annotated[
    Match,
    BeforeValidator(_read_match),
    AfterValidator(_with_all_pairs),
    PlainSerializer(_write_match),
    WithJsonSchema(
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "propertyNames": {"pattern": r"^dedup\.\w+$"},
            "additionalProperties": {"type": ["object", "null"]},
        }
    ),
]
"""A match as a setting: a value in Python, ``{dedup.MinHash: {threshold: 0.8}}`` in a configuration."""


class Leakage(Barrier):
    """Drop the training rows that have a twin in the test set; the test rows stay as they are.

    A column says to which split a row belongs. Rows that are in none of the test splits, or in no split at all,
    are training rows. The twin in the ledger is the most similar test row. Drops: ``leakage``.

    >>> rows = pa.table({"_id": ["a", "b"], "split": ["train", "test"], "text": ["to be or not to be"] * 2})
    >>> step = Leakage(match=MinHash(threshold=0.8))
    >>> step.bind(step.resolve([step.sketch(rows)]))(rows).column("_id").to_pylist()
    ['b']
    """

    split: Annotated[str, Field(min_length=1)] = "split"
    """The column that says which split a row belongs to."""
    test: Annotated[tuple[str, ...], Field(min_length=1)] = ("test",)
    """The values of it that say a row is not for training: ``[test, validation]``."""
    match: AnyMatch = Field(MinHash(), json_schema_extra={"default": {"dedup.MinHash": {}}})
    """What a twin is. Its keep order decides only between test rows that are equally similar."""

    def settings(self) -> dict[str, object]:
        """What a sketch depends on."""
        return {
            "step": "dedup.Leakage",
            "split": self.split,
            "test": sorted(self.test),
            "match": self.match.settings(),
        }

    def sketch(self, table: pa.Table) -> pa.Table:
        """The match's sketch of each row, with ``test:`` or ``train:`` before its ``_id``.

        Raises:
            ConfigError: a column of the match's keep order is missing or has no order.
            SchemaError: there is no split column, or not what the match looks at.
        """
        tested = _tested(table, self.split, self.test)
        sides = [(_TEST, tested), (_TRAIN, pc.invert(tested))]
        sketches = [_marked(self.match.sketch(table.filter(mask)), side) for side, mask in sides]
        return sketching.label(pa.concat_tables(sketches), self.settings())

    def resolve(self, sketches: Sequence[pa.Table]) -> pa.Table:
        """Decide who goes, with the most similar test row as its twin: a table of schema ``STATE``.

        Raises:
            SchemaError: a sketch was made with other settings or by another version.
        """
        sketching.check(sketches, self.settings())
        if not sketches:
            return STATE.empty_table()
        corpus = _corpus(self.match, [sketching.piece(each) for each in sketches])
        mine, theirs, edges = cross_edges(self.match, corpus, _of_test(corpus))
        order = np.lexsort((theirs, -edges.exact, mine))
        _, first = np.unique(mine[order], return_index=True)
        best = order[first]
        exact = pa.array(edges.exact[best])
        columns = {
            "_id": _named(corpus, mine[best], _TRAIN),
            "rule": pa.repeat("leakage", len(best)),
            "value": exact,
            "threshold": pa.repeat(pa.scalar(float(self.match.threshold)), len(best)),
            "twin": _named(corpus, theirs[best], _TEST),
            "estimated": pa.array(edges.estimated[best]),
            "exact": exact,
        }
        return pa.table(columns, schema=STATE).sort_by("_id")

    def bind(self, state: pa.Table) -> Op:
        """Give the op that drops the rows of a decision."""
        return DropLeaks(state=state, split=self.split, test=self.test)


class DropLeaks(Op):
    """Drop the training rows that a decision names."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    state: pa.Table
    """Of schema :data:`dedup.match.STATE`."""
    split: str
    test: tuple[str, ...]

    def apply(self, table: pa.Table) -> Outcome:
        """Keep all test rows, and the training rows that the state does not name."""
        trained = pc.invert(_tested(table, self.split, self.test))
        named = pc.is_in(table.column("_id").cast(pa.string()), value_set=self.state.column("_id"))
        drops = Drop(state=self.state).apply(table.filter(trained)).drops
        return Outcome(table.filter(pc.invert(pc.and_(trained, named))), drops)


def _tested(table: pa.Table, split: str, test: tuple[str, ...]) -> pa.ChunkedArray:
    """Of each row whether it is a test row."""
    if split not in table.schema.names:
        raise SchemaError(
            f"Leakage needs a column {split}",
            hint=f"name it at the source, as `columns: {{{split}: string}}`, or another one by `split:`",
        )
    named = _words(table.column(split))
    if named is None:
        kind = table.schema.field(split).type
        raise SchemaError(f"Leakage: a column of type {kind} names no split", hint="give strings or numbers")
    return pc.is_in(named, value_set=pa.array(test))
