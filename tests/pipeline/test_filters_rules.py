"""Every rule of ``Quality`` just inside, at and just outside its threshold, and what presets do to prose."""
# ruff: noqa: E501, RUF001
# Prose in wide scripts: two columns a character, with its own punctuation.

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lake.op import Outcome
from lake.schema import DROPS
from pipeline.filters import Quality
from pipeline.filters import quality as quality_module
from pipeline.filters.measures import measure
from pipeline.filters.rules import MEASURES, PRESETS, RULES, SCRIPTS, Preset, Rule, markdown

ENGLISH = """The old harbour lies at the end of a narrow road that winds down from the hills above the town.
Every morning the boats leave before sunrise, and the people who sell bread wait for them to come back.
My grandfather used to say that nobody could read the sea, but that one could learn to listen to it.
He had a small blue boat with a patched sail, which he painted again each spring before the storms were over.
When the wind turned, we would sit on the wall together and count how many lamps were still out there.
Is there anything more quiet than a port where the last of them has just come in?"""
CHINESE = """清晨的港口还笼罩在薄雾之中，渔船已经陆续离开码头，驶向远处的海面。卖早点的老人把炉火生好，等着第一批客人到来。
我的祖父年轻时也是渔民，他常说大海的脾气没有人能够完全摸透，只能慢慢学着去倾听。每年春天，他都会把那条蓝色的小船重新刷上油漆。
风向改变的时候，我们就坐在堤岸上，数一数还有几盏灯没有回来。那时候的夜晚非常安静，连浪花拍打石头的声音都听得清清楚楚！
后来我离开了家乡，去北方的城市读书。每当闻到咸咸的海风，你会不会也想起小时候住过的地方？"""
JAPANESE = """朝の港はまだ薄い霧に包まれていて、漁船は次々と沖へ出ていきました。パンを売る人たちは、船が戻るのを静かに待っています。
祖父は若いころ漁師でした。海の気持ちは誰にも読めないが、耳を澄ますことはできる、とよく話してくれたものです。
春が来るたびに、祖父は青い小舟を塗り直しました。風が変わると、私たちは堤防に座って、まだ帰らない灯りを数えました。
最後の一隻が戻ったあとの港ほど静かな場所が、ほかにあるでしょうか？"""
THAI = """ท่าเรือเก่าตั้งอยู่สุดถนนแคบที่ลดเลี้ยวลงมาจากเนินเขาเหนือเมือง ทุกเช้าเรือประมงจะออกไปก่อนพระอาทิตย์ขึ้น
คุณปู่เคยบอกว่าไม่มีใครอ่านใจทะเลได้ แต่เราสามารถเรียนรู้ที่จะฟังเสียงของมัน เขามีเรือสีฟ้าลำเล็กที่ทาสีใหม่ทุกฤดูใบไม้ผลิ
เมื่อลมเปลี่ยนทิศ พวกเราจะนั่งด้วยกันบนกำแพงแล้วนับว่ายังมีโคมไฟกี่ดวงที่ยังไม่กลับมา"""
KOREAN = """낡은 항구는 마을 위 언덕에서 내려오는 좁은 길 끝에 자리하고 있다. 매일 아침 배들은 해가 뜨기 전에 먼 바다로 떠난다.
빵을 파는 사람들은 배가 돌아오기를 조용히 기다린다. 할아버지는 아무도 바다의 마음을 읽을 수 없다고 자주 말씀하셨다.
그러나 귀를 기울이는 법은 누구나 배울 수 있다고 하셨다. 할아버지에게는 봄마다 새로 칠하는 작고 푸른 배가 한 척 있었다.
바람의 방향이 바뀌면 우리는 둑에 나란히 앉아 아직 돌아오지 않은 등불을 세곤 했다. 마지막 배가 들어온 뒤의 항구만큼 고요한 곳이 또 있을까?"""
GERMAN = """Der alte Hafen liegt am Ende einer schmalen Straße, die sich von den Hügeln über der Stadt herabwindet.
Jeden Morgen fahren die Boote vor Sonnenaufgang hinaus, und die Bäcker warten darauf, dass sie zurückkommen.
Mein Großvater sagte oft, niemand könne das Meer lesen, aber man könne lernen, ihm zuzuhören.
Er hatte ein kleines blaues Boot, das er in jedem Frühjahr neu strich. Wenn der Wind drehte, saßen wir auf der Mauer.
Gibt es etwas Stilleres als einen Hafen, in den das letzte Boot eben erst heimgekehrt ist?"""
PROSE = {
    "english": ENGLISH,
    "chinese": CHINESE,
    "japanese": JAPANESE,
    "thai": THAI,
    "korean": KOREAN,
    "german": GERMAN,
}


def table(*texts: str | None, **columns: list[object]) -> pa.Table:
    ids = [f"{row:032x}" for row in range(len(texts))]
    return pa.table({"_id": ids, "text": pa.array(texts, pa.string()), **columns})


def reasons(outcome: Outcome) -> list[str]:
    found: list[str] = outcome.drops.column("rule").to_pylist()
    return found


# A text for each option, with its measure counted by hand.
ONE_TO_TEN = "zero one two three four five six seven eight nine"  # ten different words, 40 letters
CASES: dict[str, tuple[str, float]] = {
    "min_words": ("one two three", 3),
    "max_words": ("one two three", 3),
    "min_mean_word_length": ("a bb ccc dddd", 2.5),
    "max_mean_word_length": ("a bb ccc dddd", 2.5),
    "max_hash_signs": ("a # b #c", 0.5),
    "max_ellipses": ("so... well.... yes… no…… end", 0.8),
    "max_bullet_lines": ("* a\n• b\n- c\nd", 0.75),
    "max_ellipsis_lines": ("a...\nb…\nc..\nd.", 0.5),
    "min_alphabetic_words": ("a 1 -- b2", 0.5),
    "min_stop_words": ("The end, and THE end of it", 3),
    "min_letters": ("ab12 !?()", 0.5),
    "max_duplicate_lines": ("a\nb\na\n a \r\nc", 0.4),
    "max_duplicate_line_characters": ("aaa\nb\naaa\nc", 0.375),
    "max_duplicate_paragraphs": ("a\nb\n\nc\n\na\nb\n\nd", 0.25),
    "max_duplicate_paragraph_characters": ("aa\nb\n\nc\n\naa\nb\n\nd", 0.375),
    "max_top_2_gram": ("ab c x ab c yyy", 6 / 10),
    "max_top_3_gram": ("a b c x a b c yy", 6 / 9),
    "max_top_4_gram": ("a b c d x a b c d y", 8 / 10),
    **{
        # The first n words come again after all ten: n words of four letters each.
        f"max_duplicate_{n}_grams": (
            " ".join([f"w{at:03}" for at in range(10)] + [f"w{at:03}" for at in range(n)]),
            n / (10 + n),
        )
        for n in range(5, 11)
    },
    "max_lorem_ipsum": ("Lorem Ipsum dolor, lorem ipsum", 2),
    "max_curly_braces": ("{a} {b} }", 2),
    "min_sentences": (
        "One is here. Two are here!\nThree of pi is 3.14 or so\nno more.\nUse JavaScript for it.",
        3,
    ),
    "min_prose_sentences": ("It is one. And this is two.\nno end mark in this line\nShort ones go.", 2),
    "min_punctuated_lines": ("a.\nb!\nc\nd。\ne", 0.6),
    "max_short_lines": (f"{'x' * 30}\n{'x' * 31}\n{'猫' * 15}\n{'猫' * 16}", 0.5),
}


def test_there_is_a_case_and_a_field_for_every_rule() -> None:
    options = [rule.option for rule in RULES]
    assert set(CASES) == set(options)
    assert set(Quality.model_fields) == {*options, "preset", "skip", "languages"}
    assert len({rule.name for rule in RULES}) == len(RULES) == len(set(options))
    assert {rule.measure for rule in RULES} == set(MEASURES)
    assert all(field.description for field in Quality.model_fields.values())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_at_its_threshold_keeps_and_just_beyond_drops(rule: Rule) -> None:
    text, value = CASES[rule.option]
    got = measure(pa.array([text])).column(rule.measure)[0]
    assert got == pytest.approx(value, abs=1e-12)
    whole = Quality.model_fields[rule.option].annotation == (int | None)
    step = 1 if whole else 1e-9
    outward, inward = (step, -step) if rule.side == "min" else (-step, step)
    rows = table(text, None)
    for near in (got, got + inward):
        limit = min(max(near, 0), 1) if rule.share else near
        kept = Quality(preset="none", **{rule.option: int(limit) if whole else limit}).apply(rows)
        assert kept.table.num_rows == 2, limit
        assert kept.drops.num_rows == 0
    beyond = got + outward
    out = Quality(preset="none", **{rule.option: int(beyond) if whole else beyond}).apply(rows)
    assert out.table.column("text").to_pylist() == [None]
    (drop,) = out.drops.to_pylist()
    assert (drop["rule"], drop["value"], drop["threshold"]) == (rule.name, got, beyond)
    assert drop["detail"] == rule.sentence
    assert drop["_id"] == "0" * 32


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_the_rules_of_the_table(preset: Preset) -> None:
    expected = [(rule.name, rule.thresholds[preset]) for rule in RULES if preset in rule.thresholds]
    assert [(rule.name, limit) for rule, limit in Quality(preset=preset).rules()] == expected


def test_published_numbers() -> None:
    """From the papers: Rae et al. A1.1 and Table A1; Raffel et al. 2.2; Penedo et al."""
    gopher = {rule.option: limit for rule, limit in Quality(preset="gopher").rules()}
    assert gopher == {
        "min_words": 50,
        "max_words": 100_000,
        "min_mean_word_length": 3,
        "max_mean_word_length": 10,
        "max_hash_signs": 0.1,
        "max_ellipses": 0.1,
        "max_bullet_lines": 0.9,
        "max_ellipsis_lines": 0.3,
        "min_alphabetic_words": 0.8,
        "min_stop_words": 2,
        "max_duplicate_lines": 0.3,
        "max_duplicate_line_characters": 0.2,
        "max_duplicate_paragraphs": 0.3,
        "max_duplicate_paragraph_characters": 0.2,
        "max_top_2_gram": 0.2,
        "max_top_3_gram": 0.18,
        "max_top_4_gram": 0.16,
        "max_duplicate_5_grams": 0.15,
        "max_duplicate_6_grams": 0.14,
        "max_duplicate_7_grams": 0.13,
        "max_duplicate_8_grams": 0.12,
        "max_duplicate_9_grams": 0.11,
        "max_duplicate_10_grams": 0.10,
    }
    fineweb = {rule.option: limit for rule, limit in Quality().rules()}
    more = {"min_punctuated_lines": 0.12, "max_short_lines": 0.67, "max_duplicate_line_characters": 0.1}
    c4 = {"max_lorem_ipsum": 0, "max_curly_braces": 0, "min_sentences": 5}
    assert fineweb == gopher | more | c4


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("language", PROSE)
def test_prose_passes(language: str, preset: str) -> None:
    if (language, preset) == ("thai", "c4"):
        assert not any(rule.option == "min_sentences" for rule, _ in Quality(preset="c4").rules())
    out = Quality(preset=preset).apply(table(PROSE[language]))
    assert reasons(out) == []
    (score,) = out.table.column("quality").to_pylist()
    assert score == 1.0 if preset == "none" else 0.3 < score <= 1.0


@pytest.mark.parametrize(
    ("language", "script"),
    [("english", "latin"), ("german", "latin"), ("chinese", "cjk"), ("japanese", "cjk"), ("thai", "southeast"),
     ("korean", "hangul")],
)  # fmt: skip
def test_scripts(language: str, script: str) -> None:
    assert measure(pa.array([PROSE[language]])).script(0) == script
    assert script in SCRIPTS


def test_bad_chinese_is_dropped_for_its_own_reason() -> None:
    again = "这个商品非常好，推荐大家购买。"
    out = Quality().apply(table(again * 12, "\n".join([again] * 12), "很好", CHINESE.replace("。", "！！……#")))
    assert reasons(out)[:3] == ["top-2-gram", "duplicate-lines", "too-few-words"]


def test_reviews_pass_the_plain_preset_and_trash_does_not() -> None:
    good = [
        "Great film, loved it.",
        "不错的电影",
        "So-so :-(",
        "とても良い映画でした",
        "5 stars from me!!!",
        "หนังดีมาก",
    ]
    bad = ["", " \n\t", "ok", "★★★★★ ♥♥♥ !!!", "--- *** ---", "spam here\n" * 5, "\x00"]
    out = Quality(preset="plain").apply(table(*good, *bad))
    assert out.table.column("text").to_pylist() == good
    assert reasons(out) == [
        "too-few-words", "too-few-words", "too-few-words", "symbols", "symbols", "duplicate-lines", "too-few-words",
    ]  # fmt: skip


def test_the_first_rule_in_the_order_of_the_table_is_the_reason() -> None:
    text = "# # # {"  # too few words, no letters, braces
    assert reasons(Quality().apply(table(text))) == ["too-few-words"]
    assert reasons(Quality(skip=["too-few-words"]).apply(table(text))) == ["short-words"]
    assert reasons(Quality(preset="c4", min_words=1).apply(table(text))) == ["curly-braces"]


def test_stop_words_of_any_language_and_only_for_latin_script() -> None:
    assert reasons(
        Quality(preset="none", min_stop_words=2).apply(table(GERMAN, CHINESE, "12 34", "foo bar"))
    ) == ["few-stop-words"]
    assert reasons(
        Quality(preset="none", min_stop_words=2, languages=["en"]).apply(table(GERMAN, ENGLISH))
    ) == ["few-stop-words"]


def test_quality_is_the_mean_margin() -> None:
    step = Quality(preset="none", min_words=2, max_hash_signs=0.5, min_alphabetic_words=0.5)
    # 4 words, 1 of them "#": margins 1 - 2/4, 1 - 0.25/0.5, (0.75 - 0.5)/(1 - 0.5)
    assert step(table("a # b c")).column("quality").to_pylist() == [0.5]
    assert step(table("a b")).column("quality").to_pylist() == [round((0 + 1 + 1) / 3, 3)]
    assert Quality(preset="none")(table("#")).column("quality").to_pylist() == [1.0]
    assert Quality(preset="none", max_curly_braces=0)(table("x")).column("quality").to_pylist() == [1.0]
    assert Quality(preset="none", min_letters=1.0)(table("x")).column("quality").to_pylist() == [1.0]
    assert Quality(preset="none", min_words=0)(table("")).column("quality").to_pylist() == [1.0]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30))
def test_quality_grows_with_the_words_where_nothing_else_changes(one: int, other: int) -> None:
    step = Quality(preset="none", min_words=1)
    low, high = sorted((one, other))
    scores = step(table("a " * low, "a " * high)).column("quality").to_pylist()
    assert scores[0] <= scores[1]
    assert (low == high) == (scores[0] == scores[1])


def test_null_text_passes_untouched_and_other_columns_stay() -> None:
    rows = table(ENGLISH, None, "no", stars=[1, 2, 3], quality=[9.0, 9.0, 9.0])
    out = Quality().apply(rows)
    assert out.table.schema.names == rows.schema.names
    assert out.table.column("stars").to_pylist() == [1, 2]
    assert out.table.column("quality").to_pylist()[1] is None
    images = pa.table({"_id": ["a"], "image": [b"x"]})
    assert Quality()(images).column("quality").to_pylist() == [None]
    empty = Quality().apply(rows.slice(0, 0))
    assert empty.table.num_rows == empty.drops.num_rows == 0
    assert empty.table.schema == out.table.schema


MIXED = [
    ENGLISH,
    CHINESE,
    "",
    None,
    "short",
    "# " * 60,
    "a b\n" * 40,
    JAPANESE * 2,
    "{" + ENGLISH,
    THAI,
    GERMAN,
    "x" * 300,
]


@pytest.mark.parametrize("preset", PRESETS)
@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(1, len(MIXED) - 1)))
def test_cutting_into_batches_changes_nothing(preset: str, cuts: set[int]) -> None:
    rows = table(*MIXED)
    step = Quality(preset=preset)
    whole = step.apply(rows)
    bounds = [0, *sorted(cuts), len(MIXED)]
    parts = [step.apply(rows.slice(a, b - a)) for a, b in itertools.pairwise(bounds)]
    assert pa.concat_tables([part.table for part in parts]) == whole.table
    assert pa.concat_tables([part.drops for part in parts]).equals(whole.drops)
    assert sorted([*whole.table.column("_id").to_pylist(), *whole.drops.column("_id").to_pylist()]) == sorted(
        rows.column("_id").to_pylist()
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=80)), max_size=6), st.sampled_from(PRESETS))
def test_rows_in_are_kept_plus_dropped_and_drops_hold_no_text(texts: list[str | None], preset: str) -> None:
    marked = [None if text is None else f"{text} zzqx" for text in texts]
    rows = table(*marked)
    out = Quality(preset=preset).apply(rows)
    assert out.drops.schema == DROPS
    assert out.table.num_rows + out.drops.num_rows == len(texts)
    assert set(out.drops.column("rule").to_pylist()) <= {rule.name for rule in RULES}
    assert "zzqx" not in str(out.drops.to_pylist())
    for score in out.table.column("quality").to_pylist():
        assert score is None or 0 <= score <= 1
    for drop in out.drops.to_pylist():
        assert math.isfinite(drop["value"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "fine"}, "fineweb"),
        ({"skip": ["few-words"]}, "did you mean 'too-few-words'"),
        ({"skip": ["q"]}, "choose from too-few-words"),
        ({"languages": ["xx"]}, "no language 'xx'"),
        ({"languages": []}, "at least 1"),
        ({"min_words": -1}, "greater than or equal to 0"),
        ({"max_short_lines": 1.1}, "less than or equal to 1"),
        ({"min_words": 200_000}, "no text can pass: min_words 200000 is above max_words 100000"),
        ({"min_word": 3}, "Extra inputs"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        Quality(**options)


def test_a_value_survives_its_json() -> None:
    step = Quality(preset="gopher", min_words=10, skip=("ellipses",), languages=("en", "de"))
    assert Quality.model_validate_json(step.model_dump_json()) == step
    assert Quality.model_validate(step.model_dump(mode="json", exclude_defaults=True)) == step
    properties = Quality.model_json_schema()["properties"]
    assert all(properties[rule.option]["description"] for rule in RULES)


def test_the_document_prints_the_table_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "filters.md").read_text(encoding="utf-8")
    assert markdown() in page


def test_docstring_example() -> None:
    import doctest

    assert doctest.testmod(quality_module).failed == 0
