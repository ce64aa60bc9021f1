"""What the ops know that have seen the corpus: its vocabulary by tf-idf, and texts to mix in by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from augment.text.protect import Protect
from augment.text.tokens import Texts, as_array, resources, tokenise, views
from lake.errors import SchemaError

if TYPE_CHECKING:
    from augment.text.lexicon import Lexicon

__all__ = ["SCHEMA", "Fitted", "count", "fit", "label_names", "merge"]

SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),  # texts (how many there are), word, or text (to mix in)
        pa.field("value", pa.string()),  # the word, the text
        pa.field("label", pa.string()),
        pa.field("_id", pa.string()),
        pa.field("count", pa.int64()),  # of a word: how often
        pa.field("documents", pa.int64()),  # in how many texts
    ]
)
"""What is known of some texts, and of all of them."""

_MOST_BYTES = 20_000  # of a text that is kept to be mixed in

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fitted:
    """The vocabulary, and the texts to mix in, as :func:`fit` or the step found them.

    Attributes:
        table: of :data:`SCHEMA`.

    >>> fitted = fit(["a good film", "a bad film", "a good day"], ids=[1, 2, 3], labels=["x", "y", "x"])
    >>> fitted.words.to_pylist(), sorted(fitted.texts)
    (['a', 'film', 'good'], ['x', 'y'])
    """

    table: pa.Table

    def __reduce__(self) -> tuple[object, ...]:
        return Fitted, (self.table,)

    def _of(self, kind: str) -> pa.Table:
        return self.table.filter(pc.equal(self.table.column("kind"), kind)).combine_chunks()

    @cached_property
    def _words(self) -> pa.Table:
        return self._of("word")

    @property
    def words(self) -> pa.ChunkedArray:
        """The vocabulary, ascending."""
        return self._words.column("value")

    @cached_property
    def size(self) -> int:
        """How many texts were seen."""
        return int(sum(self._of("texts").column("count").to_pylist()))

    @cached_property
    def idf(self) -> F64:
        """log(texts / texts with the word) of each word, and at the end that of a word of one text."""
        documents = self._words.column("documents").to_numpy().astype(np.float64)
        return np.log(max(self.size, 1) / np.append(documents, 1.0))

    @cached_property
    def drawn(self) -> F64:
        """How words are drawn: cumulative weights max S - S(w), S(w) = count(w) idf(w) (Xie et al., UDA)."""
        said = self._words.column("count").to_numpy().astype(np.float64) * self.idf[:-1]
        weights = said.max(initial=0.0) - said
        return np.cumsum(weights if weights.sum() > 0 else np.ones_like(weights))

    @cached_property
    def texts(self) -> dict[str, tuple[int, int]]:
        """For each label, from which to which row of :attr:`partners` its texts stand."""
        labels = self.partners.column("label").to_pylist()
        places: dict[str, tuple[int, int]] = {}
        for row, label in enumerate(labels):
            places[label] = (places.get(label, (row, 0))[0], row + 1)
        return places

    @cached_property
    def partners(self) -> pa.Table:
        """The texts to mix in, by label and id."""
        return self._of("text")


def fit(
    texts: Any,
    *,
    ids: Sequence[Any] | None = None,
    labels: Any = None,
    protect: Protect | None = None,
    lexicon: Lexicon | None = None,
    **limits: int,
) -> Fitted:
    """See texts; the limits are those of :func:`merge`."""
    column = as_array(texts)
    names = None if ids is None else pa.array([_name(one) for one in _list(ids)], pa.string())
    kinds = None if labels is None else label_names(labels)
    partners = limits.get("partners", 1000)
    return Fitted(
        merge([count(column, names, kinds, protect=protect, lexicon=lexicon, partners=partners)], **limits)
    )


def label_names(labels: Any) -> pa.Array:
    """Labels as the strings that tell classes apart: 1.0 is ``"1"`` and True ``"true"``, here and everywhere.

    A NaN is no label, as a null is none.

    Raises:
        SchemaError: they are of several kinds.
    """
    try:
        return pa.array(_list(labels), from_pandas=True).cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SchemaError(
            "labels that are not all of one kind", hint="give strings, whole numbers, or another single kind"
        ) from error


def _list(values: Any) -> list[Any]:
    found: list[Any] = values.to_pylist() if hasattr(values, "to_pylist") else list(values)
    return found


def _name(one: Any) -> str:
    return one if isinstance(one, str) else f"{int(one):032x}"


def count(
    texts: pa.Array | pa.ChunkedArray,
    ids: pa.Array | None = None,
    labels: pa.Array | None = None,
    *,
    protect: Protect | None = None,
    lexicon: Lexicon | None = None,
    partners: int = 1000,
) -> pa.Table:
    """The words of some texts and, given ids and labels, the texts with the smallest ids of each label.

    Returns:
        Rows of :data:`SCHEMA`.
    """
    known = resources(lexicon, protect or Protect(), None)
    parts = [_table("texts", count=[len(texts) - texts.null_count])]
    parts += [_counted(view, known) for view in views(texts)]
    if ids is not None and labels is not None and partners:
        column = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        rows = pa.table({"value": column.cast(pa.string()), "label": labels, "_id": ids})
        small = pc.less_equal(pc.binary_length(rows.column("value")), _MOST_BYTES)
        rows = rows.filter(pc.and_(small, pc.is_valid(rows.column("label"))))
        parts.append(_smallest(_table("text", **{n: rows.column(n) for n in rows.column_names}), partners))
    return pa.concat_tables(parts).combine_chunks()


def merge(
    sketches: Sequence[pa.Table], *, max_words: int = 50_000, min_documents: int = 2, partners: int = 1000
) -> pa.Table:
    """All counts together: the same whatever the order and the cutting of the texts.

    Args:
        sketches: rows of :data:`SCHEMA`.
        max_words: how many words the vocabulary holds: the most frequent, of equals the first.
        min_documents: in how many texts a word must occur.
        partners: how many texts of each label are kept to be mixed in: those with the smallest ids.
    """
    rows = pa.concat_tables([SCHEMA.empty_table(), *sketches])
    kind = rows.column("kind")
    words = (
        rows.filter(pc.equal(kind, "word"))
        .group_by("value")
        .aggregate([("count", "sum"), ("documents", "sum")])
    )
    words = words.filter(pc.greater_equal(words.column("documents_sum"), min_documents))
    order = pc.sort_indices(words, sort_keys=[("count_sum", "descending"), ("value", "ascending")])
    words = words.take(order[:max_words]).sort_by("value")
    total = sum(rows.filter(pc.equal(kind, "texts")).column("count").to_pylist())
    return pa.concat_tables(
        [
            _table("texts", count=[total]),
            _table("word", value=words["value"], count=words["count_sum"], documents=words["documents_sum"]),
            _smallest(rows.filter(pc.equal(kind, "text")), partners),
        ]
    ).combine_chunks()


def _table(kind: str, **columns: Any) -> pa.Table:
    size = len(next(iter(columns.values())))
    made = {"kind": pa.array([kind] * size, pa.string())} | columns
    return pa.table(
        [made[f.name] if f.name in made else pa.nulls(size, f.type) for f in SCHEMA], names=SCHEMA.names
    ).cast(SCHEMA)


def _smallest(rows: pa.Table, most: int) -> pa.Table:
    """Of each label the texts with the smallest ids, each id once; ordered by label and id."""
    rows = rows.sort_by([("label", "ascending"), ("_id", "ascending"), ("value", "ascending")])
    kept: list[int] = []
    held, last = 0, ("", "")
    for row, key in enumerate(
        zip(rows.column("label").to_pylist(), rows.column("_id").to_pylist(), strict=True)
    ):
        held = 0 if row == 0 or key[0] != last[0] else held
        if (row == 0 or key != last) and held < most:
            kept.append(row)
            held += 1
        last = key
    return rows.take(pa.array(kept, pa.int64()))


def _counted(view: Texts, known: Any) -> pa.Table:
    """How often each unprotected word occurs, and in how many texts."""
    from augment.text import _tokenise

    found = tokenise(view, known)
    tokens = np.flatnonzero(found.flags[: found.rows[-1]] & _tokenise.PROTECTED == 0)
    start, stop = found.start[tokens], found.stop[tokens]
    offsets = np.concatenate([[0], np.cumsum(stop - start)]).astype(np.int64)
    data = np.empty(offsets[-1], np.uint8)
    _tokenise.gather_folded(view.data, start, stop, data)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    words = pa.Array.from_buffers(pa.large_string(), len(tokens), buffers).dictionary_encode()
    if not len(tokens):
        return SCHEMA.empty_table()
    row = np.searchsorted(found.rows, tokens, side="right") - 1
    index, size = words.indices.to_numpy().astype(np.int64), len(words.dictionary)
    often = np.bincount(index, minlength=size)
    spread = np.bincount(np.unique(row * size + index) % size, minlength=size)
    return _table("word", value=words.dictionary.cast(pa.string()), count=often, documents=spread)
