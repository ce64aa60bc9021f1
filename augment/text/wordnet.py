"""Synonyms out of the database files of WordNet (Princeton), and out of Cilin (HIT, Chinese).

WordNet's ``index.*`` files name for each lemma its synsets, the usual senses first, the ``data.*`` files their
words (wndb(5WN)), and ``*.exc`` the irregular forms. From these the plurals and the verb forms are made too, so
that "films" may become "movies" and "liked" "enjoyed"; a form that is not certain ("gone" or "went"?) is left
out.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

__all__ = ["STOP_WORDS", "cilin", "files_of", "wordnet"]

Texts = Mapping[str, str]

_STOP_WORDS = """
    a about above after again against all am an and any are as at be because been before being below
    between both but by can could did do does doing down during each either else ever every few for from
    further had has have having he her here hers herself him himself his how i if in into is it its itself
    just me might mine more most must my myself of off on once only or other ought our ours ourselves out
    over own same shall she should so some such than that the their theirs them themselves then there these
    they this those through to too under until up upon us very was we were what when where which while who
    whom whose why will with would yet you your yours yourself yourselves 的 了 是 在 和 与 及 或 而 且 但
    也 都 就 还 又 把 被 对 从 到 向 给 让 使 于 以 之 其 这 那 此 我 你 他 她 它 们 我们 你们 他们 她们
    它们 有 个 着 过 得 地 吗 呢 吧 啊 呀
"""

STOP_WORDS: frozenset[str] = frozenset(_STOP_WORDS.split())
"""Words without a meaning of their own: they have no synonyms."""

_POS = ("noun", "verb", "adj", "adv")
_PLAIN = re.compile(r"[a-z][a-z' -]+")
_MOST_SYNONYMS = 12
_VOWELS = frozenset("aeiou")
_DATA_FIELDS = 4  # offset, file, type, count


def files_of(path: Path) -> dict[str, str]:
    """The database files in a folder (or the ``dict`` folder in it), a zip or a tar archive, by name.

    Raises:
        FileNotFoundError: there are none.
    """
    wanted = {f"{kind}.{pos}" for kind in ("index", "data") for pos in _POS} | {f"{pos}.exc" for pos in _POS}
    found: dict[str, bytes] = {}
    if path.is_dir():
        for folder in (path, path / "dict"):
            found |= {f.name: f.read_bytes() for f in sorted(folder.glob("*")) if f.name in wanted}
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            found = {Path(n).name: archive.read(n) for n in archive.namelist() if Path(n).name in wanted}
    elif path.is_file() and tarfile.is_tarfile(path):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                if Path(member.name).name in wanted and (file := tar.extractfile(member)):
                    found[Path(member.name).name] = file.read()
    if not any(name.startswith("data.") for name in found):
        raise FileNotFoundError(
            f"{path} holds no WordNet database: no data.noun, data.verb, data.adj or data.adv"
        )
    return {name: data.decode("utf-8", errors="replace") for name, data in found.items()}


def wordnet(files: Texts, senses: int = 3) -> dict[str, tuple[str, ...]]:
    """Synonyms by word, from the first ``senses`` senses of each part of speech; without names and numbers."""
    bases: dict[str, dict[str, None]] = {}
    forms: dict[str, dict[str, None]] = {}
    for pos in _POS:
        synsets = dict(_synsets(files.get(f"data.{pos}", "")))
        irregular = _irregular(files.get(f"{pos}.exc", ""))
        known = f"{pos}.exc" in files
        for lemma, offsets in _senses(files.get(f"index.{pos}", ""), senses):
            if lemma in STOP_WORDS or not _PLAIN.fullmatch(lemma):
                continue
            others = [
                w for offset in offsets for w in synsets.get(offset, ()) if w != lemma and w not in STOP_WORDS
            ]
            bases.setdefault(lemma, {}).update(dict.fromkeys(others))
            for change in _CHANGES.get(pos, ()) if known else ():
                form = change(lemma, irregular)
                changed = [new for word in others if (new := change(word, irregular)) and new != form]
                if form and form != lemma:
                    forms.setdefault(form, {}).update(dict.fromkeys(changed))
    made = forms | {lemma: words for lemma, words in bases.items() if words}
    return {word: tuple(made[word])[:_MOST_SYNONYMS] for word in sorted(made) if made[word]}


def cilin(text: str) -> dict[str, tuple[str, ...]]:
    r"""Synonyms by word, from Cilin's lines: a code that ends in ``=``, and words that mean the same.

    >>> cilin("Aa01A02= 人类 生人 全人类\nAa01A03# 人手 人员")["生人"]
    ('人类', '全人类')
    """
    made: dict[str, dict[str, None]] = {}
    for line in text.splitlines():
        code, *words = line.split()[:64] or [""]
        if code.endswith("="):
            for word in words:
                if word not in STOP_WORDS:
                    made.setdefault(word, {}).update(
                        dict.fromkeys(w for w in words if w != word and w not in STOP_WORDS)
                    )
    return {word: tuple(made[word])[:_MOST_SYNONYMS] for word in sorted(made) if made[word]}


def _synsets(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for line in text.splitlines():
        if line.startswith(" ") or line.count(" ") < _DATA_FIELDS:
            continue  # the licence at the head
        offset, _, _, count, rest = line.split(" ", _DATA_FIELDS)
        words = rest.split(" ")[: 2 * int(count, 16) : 2]
        plain = (
            word.partition("(")[0].replace("_", " ") for word in words
        )  # afloat(p): where an adjective stands
        yield offset, tuple(word for word in plain if _PLAIN.fullmatch(word))


def _senses(text: str, most: int) -> Iterator[tuple[str, list[str]]]:
    for line in text.splitlines():
        if line.startswith(" ") or not line.strip():
            continue
        fields = line.split()
        yield fields[0].replace("_", " "), fields[len(fields) - int(fields[2]) :][:most]


def _irregular(text: str) -> dict[str, list[str]]:
    """The forms that the exception list gives for each lemma."""
    made: dict[str, list[str]] = {}
    for line in text.splitlines():
        form, *lemmas = line.replace("_", " ").split(" ") if "_" not in line else line.split()
        for lemma in lemmas:
            made.setdefault(lemma, []).append(form)
    return made


def _with_s(word: str) -> str:
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in _VOWELS:
        return word[:-1] + "ies"
    return word + "s"


def _plural(word: str, irregular: Mapping[str, Iterable[str]]) -> str | None:
    if word in irregular:
        return next(iter(irregular[word]))
    head, space, last = word.rpartition(" ")
    if last in irregular:
        return head + space + next(iter(irregular[last]))
    return head + space + _with_s(last)


def _verb(
    word: str, irregular: Mapping[str, Iterable[str]], regular: Callable[[str], str], end: str
) -> str | None:
    """A form of a verb; of "give up" that of "give"."""
    first, space, rest = word.partition(" ")
    listed = [form for form in irregular.get(first, ()) if form.endswith("ing") == (end == "ing")]
    if len(set(listed)) > 1:
        return None  # went or gone
    return (listed[0] if listed else regular(first)) + space + rest


def _third(word: str, _irregular: Mapping[str, Iterable[str]]) -> str | None:
    first, space, rest = word.partition(" ")
    return None if first in {"be", "have", "do", "go"} else _with_s(first) + space + rest


def _stem(word: str) -> str:
    """The stem before -ed and -ing: short verbs double their last consonant."""
    short = sum(a in _VOWELS and b not in _VOWELS for a, b in zip(word, word[1:] + "z", strict=True)) == 1
    doubles = short and word[-1] not in "aeiouwxy" and word[-2:-1] in _VOWELS and word[-3:-2] not in _VOWELS
    return word + word[-1] if doubles else word


def _past(word: str, irregular: Mapping[str, Iterable[str]]) -> str | None:
    def regular(verb: str) -> str:
        if verb.endswith("e"):
            return verb + "d"
        if verb.endswith("y") and verb[-2:-1] not in _VOWELS:
            return verb[:-1] + "ied"
        return _stem(verb) + "ed"

    return _verb(word, irregular, regular, "ed")


def _gerund(word: str, irregular: Mapping[str, Iterable[str]]) -> str | None:
    def regular(verb: str) -> str:
        if verb.endswith("ie"):
            return verb[:-2] + "ying"
        if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb != "be":
            return verb[:-1] + "ing"
        return _stem(verb) + "ing"

    return _verb(word, irregular, regular, "ing")


_CHANGES = {"noun": (_plural,), "verb": (_third, _past, _gerund)}
