"""Programs carried out on texts.

Every op of a text has a key of its own (:meth:`augment.rng.Stream.keys`) and takes all its random numbers from
it (:func:`augment.rng.of_keys`); ``u(i)`` is number i, and ``d(i, m)`` = int(u(i) m). Of n tokens, or
sentences, a share s > 0 is k = max(1, int(s n)) (as in EDA); s = 0 changes nothing. *Candidates* are the tokens
that are not protected and on which the op can work, m of them, in order.

- **SynonymReplacement**: for t < min(k, m), candidate t is swapped with candidate t + d(3 t, m - t), and gets
  its synonym d(3 t + 1, synonyms). A capital stays.
- **RandomInsertion**: for t < k, synonym d(3 t + 1, ...) of candidate d(3 t, m) goes before gap d(3 t + 2,
  gaps). A word is put in behind white space, between ideographs, at the start, or at the end before closing
  punctuation.
- **RandomSwap**: for t < k, candidates a = d(2 t, m) and b = d(2 t + 1, m - 1), + 1 where b >= a, change
  places.
- **RandomDeletion**: token i goes where u(i) < s; if all would go, token d(n, n) stays.
- **KeyboardNoise**, **OcrNoise**: candidates are drawn as for synonyms; one letter, d(3 t + 1, letters), goes
  wrong in way d(3 t + 2, ways). KeyboardNoise needs four letters.
- **TfIdfInsert**: like RandomInsertion, with the word of the vocabulary at the share u(3 t + 1) of the weights.
- **TfIdfSubstitute**: candidate i is replaced where u(2 i) < s m (max tf-idf - tf-idf(i)) / sum of these, by
  the word of the vocabulary at u(2 i + 1); at most all of them (Xie et al., UDA, 2020).
- **SentenceShuffle**: like RandomSwap, with sentences.
- **SpanCrop**: n - k tokens from d(0, k + 1) on are kept, and all between the first and the last protected one.
- **SameClassMix**: the partner is number d(0, texts of the label) of the fitted ones (the next, if that is the
  text itself). Sentences are drawn as candidates are, with d(1 + 2 t); each gives way to sentence d(2 + 2 t,
  ...) of the partner, or, where something in it is protected or it is the only one, is followed by it.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from augment import rng
from augment.text import called, noise
from augment.text.protect import Protect
from augment.text.table import BY_NAME, FITTED, LABELLED, ROWS, SYNONYMS
from augment.text.tokens import Resources, Texts, Tokens, as_array, constant, resources, tokenise, views
from lake.errors import ConfigError, SchemaError
from lake.machine import cores

if TYPE_CHECKING:
    from augment.policy import Policy
    from augment.text.fitted import Fitted
    from augment.text.lexicon import Lexicon

__all__ = ["Programs", "apply_texts", "check", "execute"]

_ROWS = 8192  # of one piece of work
_MOST_THREADS = 8
_CODES = {op.code: op.name for op in ROWS}
_WIDE = 1 << 31

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
F64 = npt.NDArray[np.float64]


class Programs(Protocol):
    """What :func:`execute` reads of :class:`augment.engine.programs.Programs`."""

    @property
    def codes(self) -> I64:
        """(n, slots), -1 for nothing."""

    @property
    def parameters(self) -> F64:
        """(n, slots), shares."""

    @property
    def keys(self) -> U32:
        """(n, slots, 4)."""


def apply_texts(
    policy: Policy,
    texts: Any,
    ids: object,
    *,
    seed: int = 0,
    epoch: int = 0,
    fitted: Fitted | None = None,
    labels: Any = None,
    protect: Protect | None = None,
    lexicon: Any = None,
) -> pa.Array:
    """Augment texts: what happens to one depends on its id, seed, epoch and what was fitted, on nothing else.

    Args:
        policy: of text ops.
        texts: a list of strings and None, or an Arrow column of strings.
        ids: one per text; what :func:`augment.rng.halves` takes.
        seed: 0 .. 2**64 - 1.
        epoch: 0 .. 2**32 - 1.
        fitted: what the ops TfIdf... and SameClassMix have seen (:func:`augment.text.fit`).
        labels: one per text, for SameClassMix; a text without one is not mixed.
        protect: what no op may touch; by default negations, numbers and entities.
        lexicon: what :func:`augment.text.load` takes, for ops with synonyms; by default ``"wordnet"``.

    Returns:
        As many texts; null where there was none.

    Raises:
        ConfigError: the policy has image ops, or an op lacks what it needs; it says what.
        SchemaError: the texts are no strings.
        ValueError: the numbers of texts and ids differ.

    >>> from augment import Policy
    >>> policy = Policy(subpolicies=[[{"op": "RandomSwap", "magnitude": 0.2}]])
    >>> apply_texts(policy, ["one two three four", None], ids=[1, 2]).to_pylist()[1] is None
    True
    """
    check(policy, fitted=fitted is not None, labels=labels is not None)
    column = as_array(texts)
    halves = rng.halves(ids)
    if len(halves) != len(column):
        raise ValueError(f"{len(column)} texts, but {len(halves)} ids")
    return execute(
        column, policy.draw(halves, seed, epoch), fitted=fitted, labels=labels, ids=halves, protect=protect,
        lexicon=lexicon_of(policy, lexicon),
    )  # fmt: skip


def lexicon_of(policy: Policy, lexicon: Any) -> Lexicon | None:
    """The lexicon that a policy works with: WordNet by default where it needs one."""
    from augment.text.lexicon import load

    if lexicon is None and not SYNONYMS & set(policy.ops):
        return None
    return load("wordnet" if lexicon is None else lexicon)


def check(policy: Policy, *, fitted: bool = True, labels: bool = True) -> None:
    """Refuse a policy that does not go with texts.

    Raises:
        ConfigError: it holds image ops, or ops for which something is missing.
    """
    from augment.ops import find

    for s, sub in enumerate(policy.subpolicies):
        for c, choice in enumerate(sub.choices):
            where = f"subpolicies[{s}].choices[{c}]"
            if find(choice.spelt).kind not in {"text", "identity"}:
                raise ConfigError(
                    f"{choice.op} is no op for texts", where=where,
                    hint=f"a policy is for images or for texts; text ops are {', '.join(BY_NAME)} and nlpaug.*",
                )  # fmt: skip
            if choice.op in FITTED and not fitted:
                raise ConfigError(
                    f"{choice.op} needs the corpus",
                    where=where,
                    hint="give fitted=augment.text.fit(texts, ...)",
                )
            if choice.op in LABELLED and not labels:
                raise ConfigError(
                    f"{choice.op} needs labels", where=where, hint="give labels=, one per text or None"
                )


def execute(
    texts: Any,
    programs: Programs,
    *,
    fitted: Fitted | None = None,
    labels: Any = None,
    ids: object = None,
    protect: Protect | None = None,
    lexicon: Lexicon | None = None,
    threads: int | None = None,
) -> pa.Array:
    """Carry out programs: one row of codes, shares and keys per text.

    Raises:
        ConfigError: an op has no lexicon, no corpus or no labels.
        ValueError: the numbers of texts and programs differ.
    """
    column = as_array(texts)
    if len(column) != len(programs.codes):
        raise ValueError(f"{len(column)} texts, but {len(programs.codes)} programs")
    names = {_CODES.get(int(code), "") for code in np.unique(programs.codes)}
    if names & SYNONYMS and lexicon is None:
        raise ConfigError("ops with synonyms need a lexicon", hint='give lexicon=augment.text.load("wordnet")')
    if names & FITTED and fitted is None:
        raise ConfigError("an op needs the corpus", hint="give fitted=augment.text.fit(texts, ...)")
    work = _Work(
        resources(lexicon, protect or Protect(), fitted),
        _partners(programs, fitted, labels, ids) if names & LABELLED else None,
        _mates(fitted, protect or Protect(), lexicon) if names & LABELLED else None,
    )
    pieces: list[tuple[Texts, slice]] = []
    done = 0
    for view in views(column):
        for start in range(0, len(view.valid), _ROWS):
            stop = min(start + _ROWS, len(view.valid))
            pieces.append((view.part(start, stop), slice(done + start, done + stop)))
        done += len(view.valid)
    count = min(len(pieces), threads or _threads())
    if count > 1:
        with ThreadPoolExecutor(count) as pool:
            made = list(pool.map(lambda piece: work.run(piece[0], programs, piece[1]), pieces))
    else:
        made = [work.run(view, programs, rows) for view, rows in pieces]
    return _column(made, wide=pa.types.is_large_string(column.type))


@dataclass(frozen=True, eq=False)
class _Work:
    """What all pieces of work share."""

    known: Resources
    partners: I64 | None
    mates: tuple[Any, ...] | None

    def run(self, texts: Texts, programs: Programs, rows: slice) -> Texts:
        for slot in range(programs.codes.shape[1]):
            codes = programs.codes[rows, slot]
            ours = np.where(np.isin(codes, list(_CODES)), codes, -1)
            shares, keys = programs.parameters[rows, slot], programs.keys[rows, slot]
            if (ours >= 0).any():
                partners = np.empty(0, np.int64)
                if self.partners is not None:
                    partners = np.ascontiguousarray(self.partners[rows, slot])
                texts = self._carried(texts, ours, shares, keys, partners)
            if (codes >= called.CODES).any():
                texts = called.carry_out(texts, codes, shares, keys, self.known)
        return texts

    def _carried(self, texts: Texts, codes: I64, shares: F64, keys: U32, partners: I64) -> Texts:
        from augment.text import _kernels

        known = self.known
        tokens = tokenise(Texts.of(texts.data, texts.offsets, texts.valid & (codes >= 0)), known)
        offsets = np.empty(len(texts.offsets), np.int64)
        size = int(texts.offsets[-1] - texts.offsets[0])
        data = _kernels.carry_out(
            texts.data, texts.offsets, texts.valid, tokens, codes, np.ascontiguousarray(shares),
            np.ascontiguousarray(keys), known.synonyms, known.vocabulary, known.pool, known.drawn, known.idf,
            known.first_drawn, known.longest, noise.keyboard(), noise.ocr(), self.mates or _no_mates(),
            partners, np.empty(size + size // 4 + 64, np.uint8), offsets,
        )  # fmt: skip
        return Texts.of(data, offsets, texts.valid)


def _no_mates() -> tuple[Any, ...]:
    none: list[Any] = [np.empty(0, kind) for kind in _TOKEN_TYPES]
    return (constant(np.empty(0, np.uint8)), *Tokens(*none))


_TOKEN_TYPES = (np.int64, np.int64, np.int64, np.uint8, np.int32, np.int64, np.int64, np.int64, np.int64)


def _mates(fitted: Fitted | None, protect: Protect, lexicon: Lexicon | None) -> tuple[Any, ...]:
    """The fitted texts, cut into sentences."""
    if fitted is None or not fitted.partners.num_rows:
        return _no_mates()
    [view] = views(fitted.partners.column("value").combine_chunks())
    return (view.data, *tokenise(view, resources(lexicon, protect, fitted)))


def _partners(programs: Programs, fitted: Fitted | None, labels: Any, ids: object) -> I64:
    """Which fitted text is mixed into each: (n, slots), -1 where there is none."""
    from augment.text.fitted import label_names

    if fitted is None or labels is None:
        raise ConfigError("SameClassMix needs labels", hint="give labels=, one per text or None")
    said = label_names(labels).to_pylist()
    if len(said) != len(programs.codes):
        raise SchemaError(f"{len(programs.codes)} texts, but {len(said)} labels")
    spans = np.array([fitted.texts.get(one, (0, 0)) if one is not None else (0, 0) for one in said], np.int64)
    low, size = spans.reshape(-1, 2)[:, 0, None], np.diff(spans.reshape(-1, 2), axis=1)
    n, slots = programs.codes.shape
    u = rng.of_keys(programs.keys.reshape(-1, 4), 1)[:, 0].reshape(n, slots)
    partner = low + (u * size).astype(np.int64)
    if ids is not None and fitted.partners.num_rows:
        names = rng.halves(fitted.partners.column("_id").combine_chunks())
        itself = (names[np.minimum(partner, len(names) - 1)] == rng.halves(ids)[:, None]).all(axis=2)
        partner = np.where(itself, low + (partner - low + 1) % np.maximum(size, 1), partner)
        size = np.where(itself & (size == 1), 0, size)
    return np.where(size > 0, partner, -1)


def _column(pieces: list[Texts], *, wide: bool) -> pa.Array:
    arrays = []
    total = sum(int(piece.offsets[-1] - piece.offsets[0]) for piece in pieces)
    kind = pa.large_string() if wide or total >= _WIDE else pa.string()
    for data, offsets, valid in pieces:
        places = np.ascontiguousarray(offsets - offsets[0]).astype(
            np.int64 if pa.types.is_large_string(kind) else np.int32
        )
        mask = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
        some = data[offsets[0] : offsets[-1]]
        arrays.append(pa.Array.from_buffers(kind, len(valid), [mask, pa.py_buffer(places), pa.py_buffer(some)]))
    return pa.concat_arrays(arrays) if arrays else pa.array([], kind)


def _threads() -> int:
    """As many as this process may use; an engine that gives a worker fewer cores says so by OMP_NUM_THREADS."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    allowed = int(said) if said.isdigit() and int(said) > 0 else cores()
    return min(allowed, _MOST_THREADS)
