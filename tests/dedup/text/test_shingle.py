"""The shingle hash against a reference that is written from its definition in `dedup.text.shingle` alone."""

# ruff: noqa: RUF001  letters of many scripts, some of which look alike, are what is tested

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedup.text import _kernels, _unicode
from dedup.text.match import _length
from dedup.text.shingle import SPEC, shingle_sets
from lake.errors import SchemaError

M64 = 2**64 - 1
SEPARATOR, WORD, ALONE, EXTEND, IGNORED = range(5)

# The blocks of the scripts that the definition names, from Blocks.txt of Unicode 14.
ALONE_BLOCKS = [
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3005, 0x3007),  # ideographic iteration mark, closing mark and zero
    (0x3021, 0x3029),  # Hangzhou numerals
    (0x3031, 0x3035),  # kana repeat marks
    (0x3038, 0x303C),  # Hangzhou numerals, vertical iteration and masu marks
    (0x3041, 0x312F),  # hiragana, katakana, bopomofo
    (0x31A0, 0x31BF),  # bopomofo extended
    (0x31F0, 0x31FF),  # katakana phonetic extensions
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xA9E0, 0xA9FF),  # Myanmar extended B
    (0xAA60, 0xAADF),  # Myanmar extended A, Tai Viet
    (0xF900, 0xFAFF),  # Han, compatibility
    (0xFF66, 0xFF9D),  # half-width katakana
    (0x16FE1, 0x16FE1),  # Nüshu iteration mark
    (0x16FE3, 0x16FE3),  # old Chinese iteration mark
    (0x1AFF0, 0x1B16F),  # kana
    (0x1B170, 0x1B2FF),  # Nüshu
]
RADICALS = [(0x2E80, 0x2FDF)]


def kind_of(point: int) -> int:
    category = unicodedata.category(chr(point))
    if 0x20000 <= point <= 0x3FFFD:
        return ALONE
    if point in {0xFF9E, 0xFF9F} or category[0] == "M":
        return EXTEND
    if category == "Cf":
        return IGNORED
    if any(low <= point <= high for low, high in RADICALS) and category == "So":
        return ALONE
    if category[0] not in "LN":
        return SEPARATOR
    alone = category != "Nd" and any(low <= point <= high for low, high in ALONE_BLOCKS)
    return ALONE if alone else WORD


@cache
def fold(letter: str) -> str:
    """Simple case folding: the full one where it is one code point, else the lower-case letter if it is one."""
    for folded in (letter.casefold(), letter.lower()):
        if len(folded) == 1:
            return folded
    return letter


def reference_units(text: str, unit: str) -> list[str]:
    tokens: list[str] = []
    kinds: list[int] = []
    units: list[str] = []  # of unit char
    touches = gap = False
    for letter in text:
        kind = kind_of(ord(letter))
        if kind == IGNORED:
            continue
        if kind == SEPARATOR:
            touches, gap = False, bool(units)
            continue
        if kind == EXTEND:
            if touches:
                tokens[-1] += letter
                units.append(letter)
            continue
        if kind == WORD:
            letter = fold(letter)  # noqa: PLW2901  (the folded letter takes its place)
        if touches and kind == WORD and kinds[-1] == WORD:
            tokens[-1] += letter
        else:
            tokens.append(letter)
            kinds.append(kind)
        if gap:
            units.append(" ")
        units.append(letter)
        touches, gap = True, False
    return tokens if unit == "word" else units


def token_hash(token: str) -> int:
    data = token.encode()
    data += bytes(-len(data) % 16)
    h = 0
    for at in range(0, len(data), 16):
        x, y = (int.from_bytes(data[k : k + 8], "little") for k in (at, at + 8))
        product = (x ^ h ^ 0xFFD6E8FEB86659FD) * (y ^ 0xFFCA2BE5AB7E9D65)
        h = (product >> 64) ^ (product & M64)
    return h


def reference_hashes(text: str | None, ngram: int, unit: str) -> list[int]:
    tokens = [token_hash(token) for token in reference_units(text or "", unit)]
    if not tokens:
        return []
    found = set()
    for start in range(max(1, len(tokens) - ngram + 1)):
        window = tokens[start : start + ngram]
        w = sum(t * pow(0x9E3779B97F4A7C15, len(window) - 1 - i, 2**64) for i, t in enumerate(window)) & M64
        found.add(((w ^ (w >> 32)) * 0xD6E8FEB86659FD93 & M64) >> 32)
    return sorted(found)


def ours(column: pa.Array | pa.ChunkedArray, ngram: int, unit: str) -> list[list[int]]:
    offsets, hashes = shingle_sets(column, ngram, unit)
    return [hashes[a:b].tolist() for a, b in pairwise(offsets)]


# Only letters that every Unicode from 14 on treats alike, so that a newer Python gives the same oracle.
LETTERS = (
    list("abcXYZ019_-'.,;!?") + list(" \t\n\r\u00a0\u2003\u3000")
    + list("éÉèßẞİıſKÅçñøÆŒœ") + list("ΑΒΣσςЖжԱւႠⴀꭰᎠᾈᾀDžDZ")
    + list("漢字中文你好世界々〇〆㐀豈") + list("ひらがなカタカナーヽｱｲｶﾞﾊﾟㄅㄆ")
    + list("สวัสดีครับไทย๑๒ກຂမြန်ភាសា")
    + list("한국어") + list("अक्षरहिन्दी٣٤عربية") + list("⼀⺀㍐㊀²½Ⅷⅷ")
    + ["\u0301", "\u0345", "\u0e31", "\u3099", "\uff9e", "\u20dd"]
    + ["\u200d", "\u00ad", "\ufeff", "\u200b", "\u061c"]
    + ["𠀀", "𝒜", "🦜", "👩", "\U0001f3fd", "𐐀", "𐐨", "𞤀", "𞤢", "𛅰"]
    + ["\U0001b000", "\U0010ffff", "\x00", "\ufffd"]
)  # fmt: skip
TEXT = st.text(st.sampled_from(LETTERS), max_size=60)


@pytest.mark.skipif(unicodedata.unidata_version != "14.0.0", reason="the tables are those of Unicode 14.0")
def test_the_frozen_classes_are_those_of_the_definition() -> None:
    table = _unicode.classes()
    wrong = [f"U+{point:04X}" for point in range(0x110000) if table[point] != kind_of(point)]
    assert wrong == []


@pytest.mark.skipif(unicodedata.unidata_version != "14.0.0", reason="the tables are those of Unicode 14.0")
def test_the_frozen_folding_is_simple_case_folding() -> None:
    table = _unicode.folds()
    folded = {point: ord(fold(chr(point))) for point in range(0x110000) if kind_of(point) == WORD}
    wrong = [f"U+{p:04X}" for p, f in folded.items() if (table[p] if p < len(table) else p) != f]
    assert wrong == []


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.none(), TEXT), max_size=8), st.integers(1, 7), st.sampled_from(["word", "char"]))
@example([None, "", " ", "?!", "a", "\u0301", "\u0301a", "\u00ada\u0301"], 2, "char")
@example(["don't", "ﾊﾟﾊ", "สวัสดี", "a漢b", "漢\u3099字", "x \u0301y", "x\u200d\u0301y"], 2, "word")
def test_shingles_are_those_of_the_definition(texts: list[str | None], ngram: int, unit: str) -> None:
    assert ours(pa.array(texts, pa.string()), ngram, unit) == [reference_hashes(t, ngram, unit) for t in texts]


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x7E), max_size=400), st.integers(1, 9))
def test_ascii(text: str, ngram: int) -> None:
    for unit in ("word", "char"):
        assert ours(pa.array([text]), ngram, unit) == [reference_hashes(text, ngram, unit)]


def test_long_texts_fill_and_sort_more_than_one_block() -> None:
    rng = np.random.default_rng(3)
    sizes = (63, 64, 69, 515, 516, 517, 5000)
    texts = [" ".join(f"w{i}" for i in rng.integers(0, 3000, n).tolist()) for n in sizes]
    for unit in ("word", "char"):
        assert ours(pa.array(texts), 5, unit) == [reference_hashes(t, 5, unit) for t in texts]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from(["word", "char"]))
def test_texts_longer_than_a_chunk(seed: int, ngram: int, unit: str) -> None:
    # Runs of one kind around 64 bytes and around the 2048 of a chunk; tokens and gaps that go on for chunks.
    rng = np.random.default_rng(seed)
    runs = ["a", " ", "é", "漢", "a\u0301", "漢\u3099", "\u00ad", "Z9 ", "ẞ", "ไ", "\u0301", "🦜", "Ⱥ", "aあ"]
    text = ""
    while len(text) < 6000:
        length = int(rng.choice([1, 1, 2, 3, 7, 15, 16, 17, 31, 60, 64, 65, 700, 2040, 2049]))
        text += runs[rng.integers(len(runs))] * length
    assert ours(pa.array([text, "x y", text[5:]]), ngram, unit) == [
        reference_hashes(each, ngram, unit) for each in (text, "x y", text[5:])
    ]


def test_a_token_and_a_gap_of_many_chunks() -> None:
    for filler in ("x", " ", "\u0301", "漢"):
        text = "one two " + filler * 70_000 + " three four"
        assert ours(pa.array([text]), 2, "word") == [reference_hashes(text, 2, "word")]


def test_hashes_collide_no_more_than_chance() -> None:
    # Tokens that differ in single letters, in every place of 1 to 24, and numbers: what a weak hash falls for.
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    runs = [("q" * place, "q" * (size - place - 1)) for size in range(1, 25) for place in range(size)]
    words = list(dict.fromkeys(before + letter + after for before, after in runs for letter in letters))
    pairs = [f"{x} {y}" for x in words[::13] for y in words[::7]]
    numbers = [f"{i:016d}" for i in range(300_000)]
    for texts, ngram in ((pairs, 2), (numbers, 1)):
        count = len(set(texts))
        offsets, hashes = shingle_sets(pa.array(list(set(texts))), ngram)
        assert offsets[-1] == count
        collisions = count - len(np.unique(hashes))
        expected = count * (count - 1) / 2**33
        assert abs(collisions - expected) < 5 * np.sqrt(expected) + 5


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([0, 1, 2, 63, 64, 1000, 20000]),
    st.sampled_from([2**32, 2**20, 50]),
    st.integers(0, 2**32 - 1),
)
def test_hashes_are_sorted_however_they_are_spread(count: int, bound: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, bound, count).astype(np.uint32)[::-1].copy()
    wanted = np.unique(values)
    kept = _kernels._sort_unique(values, np.empty(count + 3, np.uint32))
    assert values[:kept].tolist() == wanted.tolist()


def test_a_repeated_shingle_counts_once() -> None:
    (hashes,) = ours(pa.array(["a b " * 500]), 2, "word")
    assert len(hashes) == 2


def test_case_and_punctuation_do_not_matter_accents_do() -> None:
    texts = ["Élan VITAL", "élan, (vital)", "elan vital", "e\u0301lan vital"]
    a, b, c, d = ours(pa.array(texts), 2, "word")
    assert a == b
    assert len({*a, *c, *d}) == 3


@pytest.mark.parametrize("text", ["我们一起学习中文", "ありがとう", "สวัสดีครับ"])
def test_scripts_without_spaces_have_many_shingles(text: str) -> None:
    (hashes,) = ours(pa.array([text]), 3, "word")
    letters = sum(not unicodedata.combining(c) and unicodedata.category(c) != "Mn" for c in text)
    assert len(hashes) == letters - 2


def test_the_digits_of_those_scripts_make_words() -> None:
    (hashes,) = ours(pa.array(["๑๒๓"]), 1, "word")
    assert len(hashes) == 1


def test_a_short_text_has_one_shingle_of_all_its_tokens() -> None:
    short, other, padded = ours(pa.array(["two words", "two birds", " two  words. "]), 5, "word")
    assert len(short) == len(other) == 1
    assert short != other
    assert short == padded


# ---------------------------------------------------------------- buffers

WORDS = ["alpha beta gamma", None, "", "漢字 kana", "delta epsilon zeta eta", "ß" * 30, None, "one two three"]
MANY = [f"number {n} of many" for n in range(200)]


def layouts() -> dict[str, tuple[pa.Array | pa.ChunkedArray, list[str | None]]]:
    plain, large = pa.array(WORDS), pa.array(WORDS, pa.large_string())
    return {
        "large_string": (large, WORDS),
        "sliced": (plain.slice(3, 4), WORDS[3:7]),
        "large sliced": (large.slice(1), WORDS[1:]),
        "slice of a slice": (plain.slice(2).slice(2, 3), WORDS[4:7]),
        "slice to nothing": (plain.slice(8), []),
        "dictionary": (pa.array(WORDS * 2).dictionary_encode(), WORDS * 2),
        "dictionary sliced": (pa.array(WORDS).dictionary_encode().slice(2, 4), WORDS[2:6]),
        "dictionary with entries that nothing uses": (
            pa.DictionaryArray.from_arrays(pa.array([4, None, 0, 4, 4], pa.int8()), pa.array(WORDS)),
            [WORDS[4], None, WORDS[0], WORDS[4], WORDS[4]],
        ),
        "dictionary of nothing": (pa.array([None, None], pa.string()).dictionary_encode(), [None, None]),
        "binary": (plain.cast(pa.binary()), WORDS),
        "large binary sliced": (plain.cast(pa.large_binary()).slice(2), WORDS[2:]),
        "binary view": (plain.cast(pa.binary()).cast(pa.binary_view()), WORDS),
        "view": (plain.cast(pa.string_view()), WORDS),
        "chunked": (pa.chunked_array([plain.slice(0, 3), plain.slice(3, 0), plain.slice(3)]), WORDS),
        "chunked dictionary": (
            pa.chunked_array([pa.array(each).dictionary_encode() for each in (["x y", None], ["z"])]),
            ["x y", None, "z"],
        ),
        "chunked dictionary with nulls among its entries": (
            pa.chunked_array(
                [
                    pa.DictionaryArray.from_arrays(pa.array([1, 0, 2]), pa.array(["x y", None, "z"])),
                    pa.DictionaryArray.from_arrays(pa.array([0, None, 1]), pa.array([None, "x y"])),
                ]
            ),
            [None, "x y", "z", None, None, "x y"],
        ),
        "chunked dictionary of more entries than its indices can number": (
            pa.chunked_array(
                [
                    pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int8()), pa.array(entries))
                    for entries in (MANY[:100], MANY[100:])
                ]
            ),
            MANY,
        ),
        "dictionary of views": (
            pa.DictionaryArray.from_arrays(pa.array([0, 3, 1, 0]), plain.cast(pa.string_view())),
            [WORDS[0], WORDS[3], WORDS[1], WORDS[0]],
        ),
        "dictionary of nothing but nulls": (
            pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array([0, None]), pa.nulls(1))] * 2),
            [None] * 4,
        ),
        "no chunk of a dictionary": (pa.chunked_array([], pa.dictionary(pa.int32(), pa.string())), []),
        "no chunk": (pa.chunked_array([], pa.string()), []),
        "null type": (pa.nulls(3), [None] * 3),
        "all null": (pa.nulls(3, pa.string()), [None] * 3),
        "empty": (pa.array([], pa.string()), []),
        "bytes under a null": (
            pa.Array.from_buffers(
                pa.string(),
                2,
                [pa.py_buffer(b"\x02"), pa.py_buffer(np.array([0, 3, 6], np.int32)), pa.py_buffer(b"abcdef")],
            ),
            [None, "def"],
        ),
    }


@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("unit", ["word", "char"])
def test_every_layout_of_a_column_gives_the_same(layout: str, unit: str) -> None:
    column, texts = layouts()[layout]
    assert ours(column, 2, unit) == [reference_hashes(t, 2, unit) for t in texts]


@pytest.mark.parametrize(
    "bad",
    [
        *(b"\xff", b"\xc3", b"\xe6\xbc", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"\xe0\x80\x80"),
        *(
            b"\xf0\x82\x82\xac",
            b"\xc1\x81",
            b"\xe0\x81\x81",
            b"\xf0\x80\x81\x81",
        ),  # a letter, in more bytes than it needs
        *(b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf7\xbf\xbf\xbf"),  # a surrogate, and beyond U+10FFFF
    ],
)
def test_bytes_that_are_not_utf8_separate(bad: bytes) -> None:
    data = b"abc" + bad + b"def"
    offsets = pa.py_buffer(np.array([0, len(data)], np.int32))
    for kind in (pa.string(), pa.binary()):
        broken = pa.Array.from_buffers(kind, 1, [None, offsets, pa.py_buffer(data)])
        for unit in ("word", "char"):
            assert ours(broken, 2, unit) == [reference_hashes("abc def", 2, unit)]


@pytest.mark.parametrize("cut", ["漢", "é", "🦜", "한", "xé"])
@pytest.mark.parametrize("unit", ["word", "char"])
def test_what_a_text_breaks_off_the_next_does_not_complete(cut: str, unit: str) -> None:
    """A code point that is cut at the end of a text, with its other bytes right behind it, in the next one."""
    data = cut.encode()
    for at in range(1, len(data)):
        broken = [b"a b" + data[:at], data[at:] + b"c d", data[:at], data[at:]]
        texts = [*broken, b"." * 200, *broken]  # far from the end of the buffer, and near it
        column = pa.array(texts, pa.binary())
        wanted = [reference_hashes(each.decode("utf-8", "replace"), 2, unit) for each in texts]
        assert ours(column, 2, unit) == wanted


GUARDED = """
import ctypes, mmap
import numpy as np
from dedup.text._kernels import sketch_batch
from dedup.text.shingle import room, tables
from dedup.text.signatures import permutations

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
page = mmap.PAGESIZE


def guarded(size, at_end):
    whole = -(-size // page) * page
    base = libc.mmap(None, whole + 2 * page, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    assert libc.mprotect(base, page, 0) == libc.mprotect(base + page + whole, page, 0) == 0
    start = base + page + (whole - size if at_end else 0)
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(start))


a, b = permutations(32, 1)
for unit in (0, 1):
    for piece in ("a ", "a", ".", "漢", "é", "a漢", "Ⱥ", "\u0301", "🦜"):
        for size in (1, 2, 3, 16, 63, 64, 65, 130, 2047, 2048, 2049, 2111, 2112, 4200):
            for at_end in (False, True):
                data = guarded(size, at_end)
                data[:] = np.frombuffer((piece.encode() * size)[:size], np.uint8)  # the last is broken off
                hashes = guarded(4 * room(size, 1, ("word", "char")[unit]), True).view(np.uint32)
                sketch_batch(
                    data, np.array([0, size], np.int32), np.ones(1, np.bool_), np.zeros(1, np.int64), tables(),
                    (1, unit), a, b, np.empty((1, 32), np.uint32), hashes, np.empty(1, np.int64),
                )
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the pages are those of Linux")
def test_nothing_beside_the_text_and_its_room_is_touched() -> None:
    """Both lie against pages that may not be read: one byte too many ends the process."""
    ran = subprocess.run([sys.executable, "-c", GUARDED], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr or "the process was killed"


@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("threads", [1, 3])
def test_some_rows_in_any_order(layout: str, threads: int) -> None:
    column, texts = layouts()[layout]
    rng = np.random.default_rng(4)
    wanted = rng.integers(0, len(texts), 2 * len(texts)) if texts else np.empty(0, np.int64)
    for rows in (wanted, np.unique(wanted), np.arange(len(texts))):
        offsets, hashes = shingle_sets(column, 2, rows=rows, threads=threads)
        sets = [hashes[a:b].tolist() for a, b in pairwise(offsets)]
        assert sets == [reference_hashes(texts[row], 2, "word") for row in rows]


@pytest.mark.parametrize("rows", [[-1], [0, 2]])
def test_rows_that_are_not_there_are_refused(rows: list[int]) -> None:
    with pytest.raises(IndexError, match="rows must lie between 0 and 1"):
        shingle_sets(pa.array(["a", "b"]), rows=np.array(rows))


def test_an_entry_of_a_dictionary_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from dedup.text import signatures

    seen = []

    def watched(*arguments: object) -> None:
        seen.append(len(arguments[3]))  # type: ignore[arg-type]  # the rows
        inner(*arguments)

    inner = signatures._kernels.sign_batch
    monkeypatch.setattr(signatures._kernels, "sign_batch", watched)
    column = pa.array(["alpha beta", "gamma"] * 500).dictionary_encode()
    found = signatures.signatures(pa.chunked_array([column, column[:10]]))
    assert sum(seen) == 2
    assert found.shape == (1010, 128)
    assert (found[::2] == found[0]).all()


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(SchemaError, match="int64 holds no text"):
        shingle_sets(pa.array([1]))
    with pytest.raises(SchemaError, match=r"fixed_size_binary\[5\] holds no text"):
        shingle_sets(pa.array([b"bytes"], pa.binary(5)))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="ngram must be positive"):
        shingle_sets(pa.array(["a"]), 0)
    with pytest.raises(ValueError, match="unit must be"):
        shingle_sets(pa.array(["a"]), 1, "line")  # type: ignore[arg-type]


# ---------------------------------------------------------------- frozen vectors


def test_the_frozen_vectors_hold() -> None:
    vectors = json.loads((Path(__file__).parent / "vectors.json").read_text("utf-8"))
    assert vectors["spec"] == SPEC
    for case in vectors["cases"]:
        ngram, unit = case["ngram"], case["unit"]
        assert case["shingles"] == reference_hashes(case["text"], ngram, unit), case["name"]
        assert ours(pa.array([case["text"]]), ngram, unit) == [case["shingles"]], case["name"]


WRITTEN = st.none() | st.text(max_size=5) | st.text("aé中𝔘", min_size=55, max_size=140)


@given(st.lists(WRITTEN, max_size=6), st.integers(0, 3))
def test_the_length_of_a_text_is_what_arrow_counts(written: list[str | None], skipped: int) -> None:
    for kind in (pa.string(), pa.large_string()):
        column = pa.chunked_array([pa.array([*written, "x"], kind).slice(skipped), pa.array(["ß"], kind)])
        assert _length(column).equals(pc.utf8_length(column).combine_chunks().cast(pa.int64()))
