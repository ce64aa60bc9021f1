"""The ops that have seen the corpus, against their formulas written down in plain Python.

Words by tf-idf: Xie et al., "Unsupervised data augmentation for consistency training", NeurIPS 2020, appendix.
Which random number decides what: :mod:`augment.text.execute`.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from augment import Policy, rng
from augment.text import Protect, apply_texts, fit
from augment.text.execute import execute
from augment.text.table import BY_NAME

WORDS = ["good", "film", "Fast", "bad", "it", "of", "rare", "not", "never", "42", "9.30"]
SAVED = {"not", "never", "42", "9.30"}
SHARES = st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0])
PROTECT = Protect(entities=False)


def carried_out(op, texts, share, fitted, ids, **more):
    programs = SimpleNamespace(
        codes=np.full((len(texts), 1), BY_NAME[op].code, np.int64),
        parameters=np.full((len(texts), 1), float(share)),
        keys=rng.Stream(ids, 3, 0).keys([0]),
    )
    return execute(texts, programs, fitted=fitted, protect=PROTECT, ids=ids, **more).to_pylist()


def numbers(id_):
    """u(i) and d(i, m) of one text."""
    u = rng.of_keys(rng.Stream([id_], 3, 0).keys([0])[:, 0], 2_000)[0].tolist()
    return u, lambda i, m: int(u[i] * m)


def how_many(share, count):
    return max(1, int(share * count)) if share > 0 else 0


class Corpus:
    """Plain counts of the words of some texts."""

    def __init__(self, texts, min_documents):
        words = [[w.lower() for w in text if w not in SAVED] for text in texts]
        self.size = len(texts)
        everything = sorted({w for text in words for w in text})
        self.documents = {w: sum(w in text for text in words) for w in everything}
        self.vocabulary = [w for w in everything if self.documents[w] >= min_documents]
        said = [sum(t.count(w) for t in words) * self.idf(w) for w in self.vocabulary]
        self.weights = [max(said) - each for each in said] if said else []
        if self.weights and not sum(self.weights):
            self.weights = [1.0] * len(said)

    def idf(self, word):
        """Of a word that is not in the vocabulary: as if one text had it."""
        return math.log(self.size / (self.documents[word] if word in self.vocabulary else 1))

    def drawn(self, u):
        """The word at the share u of the weights."""
        left = u * sum(self.weights)
        for word, weight in zip(self.vocabulary, self.weights, strict=True):
            left -= weight
            if left < 0:
                return word
        return self.vocabulary[-1]

    def tf_idf(self, word, tokens):
        word = word.lower()
        # What is not in the vocabulary, a protected word too, is not told from others like it.
        count = [t.lower() for t in tokens].count(word) if word in self.vocabulary else 1
        return count * self.idf(word) / len(tokens)


TEXTS = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=14), min_size=1, max_size=6)


def inserted(corpus, words, share, id_):
    u, d = numbers(id_)
    before = [[] for _ in range(len(words) + 1)]
    for t in range(how_many(share, len(words)) if corpus.vocabulary else 0):
        before[d(3 * t + 2, len(words) + 1)].append(corpus.drawn(u[3 * t + 1]))
    return " ".join(w for i in range(len(words) + 1) for w in (*before[i], *words[i : i + 1]))


def substituted(corpus, words, share, id_):
    u, _ = numbers(id_)
    free = [i for i, w in enumerate(words) if w not in SAVED]
    far = {i: corpus.tf_idf(words[i], words) for i in free}
    far = {i: max(far.values()) - value for i, value in far.items()}
    made = list(words)
    for i in free if corpus.vocabulary and share else ():
        chance = share * len(free) * far[i] / sum(far.values()) if any(far.values()) else share
        if u[2 * i] < chance:
            new = corpus.drawn(u[2 * i + 1])
            made[i] = new.capitalize() if words[i][0].isupper() else new
    return " ".join(made)


@settings(max_examples=40, deadline=None)
@given(texts=TEXTS, share=SHARES, least=st.integers(1, 2), first=st.integers(0, 99))
def test_words_by_tf_idf_are_inserted_as_plain_python_does(texts, share, least, first):
    plain, ids = [" ".join(words) for words in texts], range(first, first + len(texts))
    fitted = fit(plain, min_documents=least, protect=PROTECT)
    corpus = Corpus(texts, least)
    assert fitted.words.to_pylist() == corpus.vocabulary
    made = carried_out("TfIdfInsert", plain, share, fitted, ids)
    assert made == [inserted(corpus, words, share, id_) for words, id_ in zip(texts, ids, strict=True)]


@settings(max_examples=40, deadline=None)
@given(texts=TEXTS, share=SHARES, least=st.integers(1, 2), first=st.integers(0, 99))
def test_words_by_tf_idf_give_way_as_plain_python_does(texts, share, least, first):
    plain, ids = [" ".join(words) for words in texts], range(first, first + len(texts))
    fitted = fit(plain, min_documents=least, protect=PROTECT)
    made = carried_out("TfIdfSubstitute", plain, share, fitted, ids)
    corpus = Corpus(texts, least)
    assert made == [substituted(corpus, words, share, id_) for words, id_ in zip(texts, ids, strict=True)]


def mixed(sentences, label, share, id_, corpus):
    """Put sentences of a partner in; ``corpus`` holds (id, label, sentences)."""
    _, d = numbers(id_)
    others = sorted((i, text) for i, kind, text in corpus if kind == label)
    if label is None or not others:
        return sentences
    place = d(0, len(others))
    if others[place][0] == id_:
        if len(others) == 1:
            return sentences
        place = (place + 1) % len(others)
    partner = others[place][1]
    order, taken = list(range(len(sentences))), {}
    for t in range(min(how_many(share, len(sentences)), len(sentences))):
        k = t + d(1 + 2 * t, len(sentences) - t)
        order[t], order[k] = order[k], order[t]
        taken[order[t]] = partner[d(2 + 2 * t, len(partner))]
    made = []
    for s, sentence in enumerate(sentences):
        saved = len(sentences) == 1 or SAVED & set(sentence.strip(".").split())
        made += ([sentence] if s not in taken or saved else []) + ([taken[s]] if s in taken else [])
    return made


SENTENCE = st.lists(st.sampled_from(["good", "film", "it", "not", "42"]), min_size=1, max_size=4).map(
    lambda words: f"Ah {' '.join(words)}."
)


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(
        st.tuples(st.lists(SENTENCE, min_size=1, max_size=6), st.sampled_from(["a", "b", None])),
        min_size=1,
        max_size=7,
    ),
    share=SHARES,
    first=st.integers(0, 99),
)
def test_sentences_are_mixed_as_plain_python_does(texts, share, first):
    ids = range(first, first + len(texts))
    plain, labels = [" ".join(text) for text, _ in texts], [label for _, label in texts]
    fitted = fit(plain, ids=ids, labels=labels, protect=PROTECT)
    made = carried_out("SameClassMix", plain, share, fitted, ids, labels=labels)
    corpus = [(id_, label, text) for id_, (text, label) in zip(ids, texts, strict=True)]
    assert made == [" ".join(mixed(text, label, share, id_, corpus)) for id_, label, text in corpus]


def test_a_nan_is_no_label():
    texts = ["Ah one. Ah two.", "Be one. Be two."] * 20
    policy = {"subpolicies": [[{"op": "SameClassMix", "magnitude": 1}]]}
    for labels in ([math.nan] * 40, [math.nan, None] * 20):
        fitted = fit(texts, ids=range(40), labels=labels)
        assert fitted.texts == {}
        made = apply_texts(Policy.model_validate(policy), texts, range(40), fitted=fitted, labels=labels)
        assert made.to_pylist() == texts
