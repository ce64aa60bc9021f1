"""The compiled text measures against a plain Python reference, on any Unicode text."""

from __future__ import annotations

import doctest
import re
import unicodedata
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.filters import characters, measures, rules
from pipeline.filters.characters import BULLETS, CLOSERS, QUOTES, STOP_ALONE_MARKS, STOP_MARKS, STOP_WORDS
from pipeline.filters.rules import MEASURES

UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u312f\u31a0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff\uff66-\uff9d\U0001aff0-\U0001b16f\U00020000-\U000323af]"
)
PLAIN_STOP = re.escape(STOP_MARKS)
ANY_STOP = re.escape(STOP_MARKS + STOP_ALONE_MARKS)
STOP_RUN = re.compile(f"[{ANY_STOP}][{ANY_STOP}{re.escape(CLOSERS)}]*")
NO_PROSE = (
    "javascript",
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)


def unspaced(letter: str) -> bool:
    return bool(UNSPACED.match(letter)) and letter.isalnum() and not letter.isdecimal()


def mark(letter: str) -> bool:
    return unicodedata.category(letter)[0] == "M" and not letter.isalnum()


def wide_letter(letter: str) -> bool:
    if 0x20000 <= ord(letter) < 0x40000:
        return True
    return unicodedata.east_asian_width(letter) in "WF" and unicodedata.category(letter) != "Cn"


def words_of(text: str) -> list[str]:
    found = []
    for run in text.split():
        if not any(map(unspaced, run)):
            found.append(run)
            continue
        parts: list[str] = []
        for letter in run:
            if unspaced(letter):
                parts.append(letter)
            elif parts and (mark(letter) or not unspaced(parts[-1][0])):
                parts[-1] += letter
            else:
                parts.append(letter)
        found += [part for part in parts if any(letter.isalnum() for letter in part)]
    return found


def ascii_lower(text: str) -> str:
    return "".join(chr(ord(letter) + 32) if "A" <= letter <= "Z" else letter for letter in text)


def sentences_of(line: str) -> int:
    pieces, start = [], 0
    for run in STOP_RUN.finditer(line):
        after = line[run.end() : run.end() + 1]
        if set(run.group()) & set(STOP_ALONE_MARKS) or not after or after.isspace():
            pieces.append(line[start : run.end()])
            start = run.end()
    pieces.append(line[start:])
    return sum(any(letter.isalnum() for letter in piece) for piece in pieces)


def repeats(items: list[str]) -> tuple[int, int]:
    seen: set[str] = set()
    count = size = 0
    for item in items:
        if item in seen:
            count += 1
            size += len(item.replace("\n", ""))
        seen.add(item)
    return count, size


def script_of(text: str, words: list[str]) -> str:
    alone = [letter for letter in text if unspaced(letter)]
    if len(alone) * 2 > len(words):
        southeast = sum(ord(letter) < 0x2E80 or 0xA900 <= ord(letter) < 0xAB00 for letter in alone)
        return "southeast" if southeast * 2 > len(alone) else "cjk"
    letters = [letter for letter in text if letter.isalpha() and not unspaced(letter)]
    for script in ("latin", "hangul"):
        name = script.upper()
        if sum(unicodedata.name(letter, "").find(name) >= 0 for letter in letters) * 2 > len(letters):
            return script
    return "other"


def stop_words_of(words: list[str]) -> int:
    cores = set()
    for word in words:
        core = re.sub(r"^[\W_]+|[\W_]+$", "", word)
        while core and not core[0].isalnum():
            core = core[1:]
        while core and not core[-1].isalnum():
            core = core[:-1]
        small = [
            letter.lower() if len(letter.lower()) == 1 and letter < "\u2000" else letter for letter in core
        ]
        cores.add("".join(small))
    return max(len(cores & set(common)) for common in STOP_WORDS.values())


def grams_of(words: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]


def top_share(words: list[str], size: int) -> float:
    counts = Counter(grams_of(words, size))
    often = max(counts.values(), default=1)
    if often == 1:
        return 0.0
    longest = max(sum(map(len, gram)) for gram, count in counts.items() if count == often)
    return min(1.0, often * longest / sum(map(len, words)))


def repeated_share(words: list[str], size: int) -> float:
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    for at, gram in enumerate(grams_of(words, size)):
        if gram in seen:
            covered |= set(range(at, at + size))
        seen.add(gram)
    return sum(len(words[at]) for at in covered) / sum(map(len, words))


def reference(text: str) -> tuple[str, dict[str, float]]:
    words = words_of(text)
    script = script_of(text, words)
    raw = re.split("\r\n|\r|\n", text)
    lines = [line.strip() for line in raw if line.strip()]
    paragraphs = [block.strip("\n") for block in re.split("\n\n+", "\n".join(line.strip() for line in raw))]
    paragraphs = [block for block in paragraphs if block]
    out = dict.fromkeys(MEASURES, float("nan"))
    out["words"] = len(words)
    out["stop_words"] = stop_words_of(words)
    out["lorem_ipsum"] = ascii_lower(text).count("lorem ipsum")
    out["curly_braces"] = text.count("{")
    prose = [
        line for line in lines if len(words_of(line)) >= 3 and not any(p in ascii_lower(line) for p in NO_PROSE)
    ]
    ends = set(STOP_MARKS + STOP_ALONE_MARKS + QUOTES)
    out["sentences"] = sum(map(sentences_of, prose))
    out["prose_sentences"] = sum(
        sentences_of(line)
        for line in prose
        if len(words_of(line)) >= 5 and line[-1] in ends and not line.endswith(("...", "…"))
    )
    visible = [letter for letter in text if not letter.isspace()]
    if visible:
        out["letters"] = sum(letter.isalnum() or mark(letter) for letter in visible) / len(visible)
    if words:
        out["mean_word_length"] = sum(map(len, words)) / len(words)
        out["hash_signs"] = text.count("#") / len(words)
        out["ellipses"] = len(re.findall(r"\.{3,}|…+", text)) / len(words)
        out["alphabetic_words"] = sum(any(c.isalpha() or unspaced(c) for c in word) for word in words) / len(
            words
        )
        scale = 2 if script in {"cjk", "southeast"} else 1
        for size in (2, 3, 4):
            out[f"top_{size}_gram"] = top_share(words, size * scale)
        for size in range(5, 11):
            out[f"duplicate_{size}_grams"] = repeated_share(words, size * scale)
    if lines:
        characters_ = sum(map(len, lines))
        count, size = repeats(lines)
        out["duplicate_lines"], out["duplicate_line_characters"] = count / len(lines), size / characters_
        count, size = repeats(paragraphs)
        out["duplicate_paragraphs"] = count / len(paragraphs)
        out["duplicate_paragraph_characters"] = size / characters_
        out["bullet_lines"] = sum(line[0] in BULLETS for line in lines) / len(lines)
        out["ellipsis_lines"] = sum(line.endswith(("...", "…")) for line in lines) / len(lines)
        out["punctuated_lines"] = sum(line[-1] in ends for line in lines) / len(lines)
        wide = [sum(2 if wide_letter(c) else 1 for c in line) for line in lines]
        out["short_lines"] = sum(width <= 30 for width in wide) / len(lines)
    return script, out


WORDS = """the and a cat's Zebra, und die « 3.14 e.g. # ... .... … …… . ! ? 。 ！ ” 」 ) *item •item -item { }
JavaScript 猫 犬が 天气很好 ภาษาไทย ก็ ທ မြန် 한국어 привет 𠀀 🎈 २० 〇 々 ー ｶﾞ １２ ๓ İ ẞ Và của"""  # noqa: RUF001
PHRASES = [
    "lorem ipsum",
    "LOREM Ipsum",
    "javascript ",
    "use cookies",
    "Terms of Use",
    "e\u0301",
    "\u0301",
    "\u200d",
]
BLANKS = ["\r\n", "\n", "\r", "\n\n", " ", "\t", "\x00", "\x1c", "\x85", "\u2028", "\u00a0"]
PIECES = st.sampled_from([*WORDS.split(), *PHRASES, *BLANKS])
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.lists(PIECES, max_size=60).map("".join),
    st.lists(PIECES, max_size=40).map(" ".join),
    st.lists(st.sampled_from(["a", "bb", "ccc", "\n"]), max_size=60).map(" ".join),
    st.lists(st.sampled_from(["猫", "犬", "鳥。", "\n"]), max_size=60).map("".join),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_measures_equal_the_reference(texts: list[str]) -> None:
    found = measures.measure(pa.array(texts))
    for row, text in enumerate(texts):
        script, expected = reference(text)
        got = dict(zip(MEASURES, found.values[row].tolist(), strict=True))
        assert got == pytest.approx(expected, nan_ok=True, abs=1e-12)
        if not re.search(
            "[ªº]|[^\u0000-\u02ff\u0300-\u036f\u0400-\u04ff\u0e00-\u0eff\u3000-\u9fff\uac00-\ud7a3]", text
        ):
            assert found.script(row) == script  # the reference's names of letters are only exact for these


def test_every_character_alone_has_the_reference_classes() -> None:
    table = characters.classes()
    step = [*range(0x3000), *range(0x3000, 0x110000, 7)]
    for point in step:
        letter = chr(point)
        assert bool(table[point] & characters.SPACE) == letter.isspace(), hex(point)
        assert bool(table[point] & characters.ALPHA) == letter.isalpha(), hex(point)
        assert bool(table[point] & characters.ALNUM) == letter.isalnum(), hex(point)
        assert bool(table[point] & characters.MARK) == mark(letter), hex(point)
        assert bool(table[point] & characters.WIDE) == wide_letter(letter), hex(point)
        assert bool(table[point] & characters.UNSPACED) == unspaced(letter), hex(point)


def test_latin_letters_are_those_that_unicode_calls_latin() -> None:
    table = characters.classes()
    for point in range(0x0250):
        latin = chr(point).isalpha() and "MICRO" not in unicodedata.name(chr(point), "")
        assert bool(table[point] & characters.LATIN) == latin, hex(point)
    assert not table[ord("я")] & characters.LATIN
    assert table[ord("ệ")] & characters.LATIN


def test_null_texts_and_slices_and_chunks_and_wide_offsets() -> None:
    texts = ["one two", None, "", "三个字", "x"]
    whole = measures.measure(pa.array(texts)).column("words")
    np.testing.assert_array_equal(whole, [2, np.nan, 0, 3, 1])
    np.testing.assert_array_equal(measures.measure(pa.array(texts).slice(2, 2)).column("words"), [0, 3])
    chunks = pa.chunked_array([texts[:1], [], texts[1:]], pa.string())
    np.testing.assert_array_equal(measures.measure(chunks).column("words"), whole)
    wide = pa.array(texts, pa.large_string())
    np.testing.assert_array_equal(measures.measure(wide).column("words"), whole)
    assert measures.measure(pa.chunked_array([], pa.string())).values.shape == (0, len(MEASURES))
    assert measures.measure(pa.array([None], pa.string())).column("words").tolist() == pytest.approx(
        [np.nan], nan_ok=True
    )
    assert measures.word_counts(pa.array(texts)).tolist() == [2, 0, 0, 3, 1]


def test_the_languages_choose_whose_stop_words_count() -> None:
    text = pa.array(["Der Hund und die Katze liegen in dem Haus"])
    assert measures.measure(text, ("de",)).column("stop_words").tolist() == [3]
    assert measures.measure(text, ("en",)).column("stop_words").tolist() == [0]
    assert measures.measure(text).column("stop_words").tolist() == [3]


def test_without_grams_the_other_measures_are_the_same() -> None:
    text = pa.array(["a b a b a b\na b a b a b"])
    full, part = measures.measure(text).values[0], measures.measure(text, grams=False).values[0]
    grams = np.array(["gram" in name for name in MEASURES])
    assert np.isnan(part[grams]).all()
    np.testing.assert_array_equal(full[~grams], part[~grams])


def test_a_document_of_five_megabytes_and_then_a_small_one() -> None:
    big = "".join(f"word{at} walks to town {at % 97}.\n" for at in range(220_000))
    assert len(big) > 5_000_000
    found = measures.measure(pa.array([big, "a b a b"]))
    assert found.column("words").tolist() == [1_100_000, 4]
    assert found.column("top_2_gram")[1] == 1.0
    assert found.column("duplicate_lines").tolist() == [0, 0]
    crowd = "\n\n".join(["a", "b"] * 20_000)  # many more lines and paragraphs than distinct ones
    assert measures.measure(pa.array([crowd])).column("duplicate_paragraphs")[0] == pytest.approx(
        39_998 / 40_000
    )


def test_stop_words_are_short_lower_case_and_shared_ones_count_for_each_language() -> None:
    from pipeline.filters.kernels import CORE_LIMIT

    for language, common in STOP_WORDS.items():
        assert len(set(common)) == 8, language
        for word in common:
            assert word == word.lower()
            assert word.isalpha()
            assert len(word) < CORE_LIMIT
            assert all(ord(letter) < characters.LOWER_SIZE for letter in word)
    assert len(STOP_WORDS) <= 32  # a bit each


@pytest.mark.parametrize("module", [characters, measures, rules])
def test_docstring_examples(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]  # parametrize hands modules on as objects


@pytest.mark.parametrize("mark_", "。！？")  # noqa: RUF001  (the full-width marks are meant)
def test_full_width_marks_end_sentences_and_lines(mark_: str) -> None:
    found = measures.measure(pa.array([f"今天下雨{mark_}明天晴朗{mark_}"]))
    assert found.column("sentences").tolist() == [2]
    assert found.column("prose_sentences").tolist() == [2]
    assert found.column("punctuated_lines").tolist() == [1]
