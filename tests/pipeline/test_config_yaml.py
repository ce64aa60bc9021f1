from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.strictyaml import Problem, Source, emit, parse

# What an unquoted scalar means by the core schema of YAML 1.2.2, section 10.3.2.
CORE = [
    ("null", None), ("Null", None), ("~", None), ("nULL", "nULL"),
    ("true", True), ("False", False), ("TRUE", True), ("tRUE", "tRUE"),
    ("yes", "yes"), ("no", "no"), ("on", "on"), ("Off", "Off"), ("y", "y"),
    ("0", 0), ("-19", -19), ("+3", 3), ("012", 12), ("0o14", 12), ("0xC", 12), ("0b1", "0b1"),
    ("1_000", "1_000"), ("12:30:45", "12:30:45"), ("2026-01-01", "2026-01-01"), ("1.2.3", "1.2.3"),
    ("0.5", 0.5), (".5", 0.5), ("-2.", -2.0), ("1e3", 1000.0), ("12e-1", 1.2), ("+1.5E+2", 150.0), ("e3", "e3"),
    (".inf", math.inf), ("-.INF", -math.inf), ("inf", "inf"), ("nan", "nan"), ("=", "="), ("<<", "<<"),
]  # fmt: skip


def plain(text: str) -> object:
    node, problems = parse(Source("a.yaml", text))
    assert problems == []
    assert node is not None
    return node.plain()


@pytest.mark.parametrize(("text", "value"), CORE)
def test_scalars_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    found = plain(f"- {text}\n")
    assert found == [value]
    assert type(found[0]) is type(value)  # type: ignore[index]
    assert plain(f"- '{text}'\n") == [text]


def test_not_a_number() -> None:
    (found,) = plain("[.nan]")  # type: ignore[misc]
    assert math.isnan(found)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.from_regex(r"[-+0-9a-fxoE.:#~_]{1,8}"),
)
KEYS = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


@given(VALUES)
def test_what_is_emitted_parses_to_the_same(value: object) -> None:
    assert plain(emit(value)) == value


@given(VALUES)
def test_others_read_the_structure_that_we_emit(value: object) -> None:
    """PyYAML reads YAML 1.1: scalars may differ in type there, never in number or nesting."""

    def shape(each: object) -> object:
        if isinstance(each, dict):
            return {str(i): shape(inner) for i, inner in enumerate(each.values())}
        return [shape(inner) for inner in each] if isinstance(each, list) else "."

    class Words(yaml.SafeLoader):
        """Every scalar is a string."""

    Words.yaml_implicit_resolvers = {}
    assert shape(yaml.load(emit(value), Loader=Words)) == shape(value)


@given(st.text(max_size=60))
def test_any_text_gives_a_value_or_problems_with_places(text: str) -> None:
    node, problems = parse(Source("a.yaml", text))
    if node is not None and not problems:
        node.plain()
    for problem in problems:
        assert problem.line >= 1
        assert problem.column >= 1
        assert str(problem).startswith(f"a.yaml:{problem.line}:")


def test_an_alias_bomb_has_nothing_to_blow_up() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    node, problems = parse(Source("a.yaml", "\n".join(lines)))
    assert node is not None
    assert len(problems) == 12 + 11 * 9


def test_places_are_those_of_the_editor() -> None:
    node, _ = parse(Source("a.yaml", "a:\n  - {b: 'é', ccc: 12}\n"))
    found = node.values["a"].items[0].values["ccc"]  # type: ignore[union-attr]
    assert (found.line, found.column, found.width) == (2, 19, 2)


def test_a_long_line_is_cut_around_the_place() -> None:
    text = "a: [" + ", ".join(["word"] * 100) + "]\nb: " + "x" * 400
    snippet = Source("a.yaml", text).snippet(1, 301, 4)
    line, carets = snippet.splitlines()
    assert len(line) <= 110
    assert line[carets.index("^") : carets.rindex("^") + 1] == text[300:304]


def test_a_problem_of_a_whole_file_has_no_line() -> None:
    assert Problem("a.yaml", 0, 0, "it is a folder").where == "a.yaml"
