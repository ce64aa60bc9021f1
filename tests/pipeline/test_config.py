from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dedup
import lake
from lake.errors import ConfigError, ExitCode
from pipeline import filters
from pipeline.config import Config, InvalidConfigError, Sink, dump, load, loads

HEAD = "name: docs\nlake: ./lake\n"
GOOD = HEAD + "source: {lake.Files: {paths: data/*.jsonl}}\n"

# What is wrong, where, what the message says, what the hint says. Every case is one problem.
BAD = [
    pytest.param("", 0, 0, "empty", "gristmill init", id="empty"),
    pytest.param("# only a comment\n", 0, 0, "empty", "gristmill init", id="only a comment"),
    pytest.param("- a\n- b\n", 1, 1, "must be a mapping", "", id="a list at the top"),
    pytest.param("reviews", 1, 1, "not 'reviews' (a string)", "", id="a word at the top"),
    pytest.param(GOOD + "stpes: []\n", 4, 1, "unknown key 'stpes'", "'steps'", id="unknown key"),
    pytest.param(GOOD + "zebra: 1\n", 4, 1, "unknown key 'zebra'", "known keys: name, lake", id="stranger"),
    pytest.param(
        GOOD + "name: again\n", 4, 1, "'name' is there twice (first on line 1)", "keep one", id="twice"
    ),
    pytest.param(HEAD, 1, 1, "the key 'source' is missing", "lake.Files", id="no source"),
    pytest.param(
        "lake: x\nsource: {lake.Files: {paths: a}}\n", 1, 1, "'name' is missing", "add name", id="no name"
    ),
    pytest.param(GOOD.replace("docs", "My Docs"), 1, 7, "pattern", "", id="name is no slug"),
    pytest.param(GOOD.replace("docs", "17"), 1, 7, "must be a string, not 17", '"17"', id="name is a number"),
    pytest.param(
        GOOD.replace("./lake", "gopher://x"), 2, 7, "gopher:// is not supported", "", id="strange storage"
    ),
    pytest.param(GOOD + "seed: -1\n", 4, 7, "greater than or equal to 0, not -1", "", id="negative seed"),
    pytest.param(
        GOOD + 'seed: "7"\n', 4, 7, "must be a whole number, not '7' (a string)", "quotes", id="seed in quotes"
    ),
    pytest.param(GOOD + "seed: true\n", 4, 7, "must be a whole number, not true", "", id="seed is a boolean"),
    pytest.param(GOOD + "seed: no\n", 4, 7, "not 'no' (a string)", "", id="no is a string"),
    pytest.param(GOOD + "allowed_rejects: 1.5\n", 4, 18, "less than or equal to 1", "", id="share over 1"),
    pytest.param(GOOD + "raw: _raw\n", 4, 6, "pattern", "", id="reserved table name"),
    pytest.param(GOOD + "clean: raw\n", 4, 1, "three different tables", "rename", id="one table twice"),
    pytest.param(GOOD + "sink: {lake.Table: {name: Raw}}\n", 4, 1, "three different", "rename", id="case only"),
    pytest.param(GOOD + "steps:\n\t- dedup.MinHash\n", 5, 1, "a tab", "spaces", id="tab"),
    pytest.param(GOOD + "steps: [dedup.MinHash\n", 5, 1, "not YAML", "", id="open bracket"),
    pytest.param(GOOD + "raw: a: b\n", 4, 7, "a colon where no key can stand", "quote", id="two colons"),
    pytest.param(GOOD + "raw: &x a\n", 4, 6, "anchor &x is not allowed", "write the value", id="anchor"),
    pytest.param(GOOD + "raw: *x\n", 4, 6, "alias *x is not allowed", "", id="alias"),
    pytest.param(GOOD + "raw: !!python/name:os.system x\n", 4, 6, "tag !!python/name:os.system", "", id="tag"),
    pytest.param(GOOD + "---\nname: b\n", 4, 1, "a second document", "one pipeline", id="two documents"),
    pytest.param(GOOD + "? [a]\n: b\n", 4, 3, "a key must be a plain word", "", id="list as a key"),
    pytest.param(GOOD + "raw: a\x07b\n", 4, 7, "U+0007", "", id="control character"),
    pytest.param(GOOD + 'raw: "\\ud800"\n', 4, 6, "surrogate", "", id="lone surrogate"),
    pytest.param(GOOD + "raw: " + "[" * 60 + "\n", 4, 45, "nested more than", "", id="deep"),
    pytest.param(
        GOOD + "steps: dedup.MinHash\n", 4, 8, "must be a list of steps", "MinHash", id="steps is no list"
    ),
    pytest.param(
        GOOD + "steps:\n  - dedup.MinHsh\n", 5, 5, "'dedup.MinHsh' is not a step", "'dedup.MinHash'", id="op"
    ),
    pytest.param(
        GOOD + "steps:\n  - MinHash: {}\n", 5, 5, "not a step", "'dedup.MinHash'", id="op without its module"
    ),
    pytest.param(
        GOOD + "steps:\n  - augment.MinHash\n", 5, 5, "not a step", "'dedup.MinHash'", id="wrong module"
    ),
    pytest.param(
        GOOD + "steps:\n  - dedup.MinHash: 0.8\n", 5, 20, "mapping of settings, not 0.8", "ops", id="no mapping"
    ),
    pytest.param(
        GOOD + "steps:\n  - dedup.MinHash: {treshold: 0.8}\n",
        5,
        21,
        "unknown key 'treshold'",
        "'threshold'",
        id="field",
    ),
    pytest.param(
        GOOD + "steps:\n  - dedup.MinHash:\n    threshold: 0.8\n",
        5,
        5,
        "2 keys",
        "indent",
        id="not indented enough",
    ),
    pytest.param(
        GOOD + "steps:\n  - dedup.MinHash: {threshold: high}\n",
        5,
        32,
        "must be a number, not 'high'",
        "",
        id="type",
    ),
    pytest.param(
        GOOD + "steps:\n  - dedup.MinHash: {threshold: 1.5}\n", 5, 32, "less than or equal to 1", "", id="range"
    ),
    pytest.param(
        GOOD + "steps:\n  - dedup.MinHash: {unit: wrod}\n",
        5,
        27,
        "must be 'word' or 'char'",
        "'word'",
        id="literal",
    ),
    pytest.param(
        GOOD + "steps:\n  - lake.Files: {paths: a}\n",
        5,
        5,
        "is a source: it cannot stand under steps",
        "",
        id="place",
    ),
    pytest.param(
        HEAD + "source: {dedup.MinHash: {}}\n", 3, 10, "it cannot stand under source", "", id="step as source"
    ),
    pytest.param(HEAD + "source: []\n", 3, 9, "an empty list", "lake.Files", id="no sources"),
    pytest.param(
        HEAD + "source: {lake.Files: {}}\n", 3, 10, "the key 'paths' is missing", "add paths", id="no paths"
    ),
    pytest.param(
        HEAD + "source: {lake.Files: {paths: 3}}\n", 3, 30, "must be a string or a list", "", id="union"
    ),
    pytest.param(
        HEAD + "source: {lake.Files: {paths: [a, 3]}}\n", 3, 34, "must be a string, not 3", "", id="in a list"
    ),
    pytest.param(GOOD + "sink: train\n", 4, 7, "not a step", "", id="sink by name only"),
    pytest.param(
        GOOD + "plugins: [no_such_module]\n", 4, 11, "there is no module", "PYTHONPATH", id="no plugin"
    ),
    pytest.param(GOOD + "plugins: [../x]\n", 4, 11, "is not a module name", "", id="plugin is a path"),
    pytest.param(GOOD + "plugins: [json]\n", 4, 11, "exports no step", "__all__", id="plugin without steps"),
]


@pytest.mark.parametrize(("text", "line", "column", "message", "hint"), BAD)
def test_a_bad_configuration_is_told_with_its_place(
    text: str, line: int, column: int, message: str, hint: str
) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        loads(text, "a.yaml")
    (problem,) = caught.value.errors
    assert (problem.line, problem.column) == (line, column), str(problem)
    assert message in problem.message
    assert hint in problem.hint
    assert str(caught.value).startswith(f"a.yaml:{line}:{column}: " if line else "a.yaml: ")
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "lake.op.import_module",
        "lake.op.Op",
        "lake.op.Step",
        "lake.__loader__",
        "lake.__class__",
        "lake.Files.__init__",
        "lake.Lake",
        "lake.import_module",
        "dedup.signatures",
        "dedup.Result",
        "dedup.text.minhash.MinHash",
        "dedup._HOME",
        "pipeline.Pipeline",
        "pipeline.cli.main",
        "pipeline.config.Config",
        "augment.presets",
        "augment.presets.trivial_augment_wide",
        "..MinHash",
        "dedup.",
        ".",
        "dedup.MinHash.apply",
        "dedup.MinHash ",
        "dedup.МinHash",  # noqa: RUF001  (a Cyrillic M)
    ],
)
def test_nothing_but_steps_can_be_reached(name: str) -> None:
    with pytest.raises(InvalidConfigError, match="is not a step") as caught:
        loads(GOOD + f'steps:\n  - "{name}": {{}}\n')
    assert [(each.line, each.column) for each in caught.value.errors] == [(5, 5)]


def test_all_errors_come_at_once_and_in_order() -> None:
    text = """\
name: Docs
lake: 3
source:
  - lake.Files: {paths: 1, text: 2}
  - lake.Filez: {paths: a}
steps:
  - dedup.MinHash: {threshold: high, num_perm: 0}
  - pipeline.filters.Quality: {preset: finewep}
  - dedup.PHsh
seed: 1.5
seed: 2
color: red
"""
    with pytest.raises(InvalidConfigError) as caught:
        loads(text)
    places = [(each.line, each.column) for each in caught.value.errors]
    assert places == [
        (1, 7), (2, 7), (4, 25), (4, 34), (5, 5), (7, 32), (7, 48), (8, 40), (9, 5), (10, 7), (11, 1), (12, 1),
    ]  # fmt: skip
    assert str(caught.value).endswith("12 problems")


def test_an_error_shows_the_line_with_a_caret() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        loads(GOOD + "steps:\n  - dedup.MinHash: {threshold: high}\n", "a.yaml")
    assert str(caught.value).splitlines() == [
        "a.yaml:5:32: must be a number, not 'high' (a string) (at steps.1.dedup.MinHash.threshold)",
        "    5 |   - dedup.MinHash: {threshold: high}",
        "      |                                ^^^^",
    ]


def test_the_error_survives_a_process_border() -> None:
    with pytest.raises(ConfigError) as caught:
        loads("", "a.yaml")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), copy.errors, str(copy)) == (InvalidConfigError, caught.value.errors, str(caught.value))


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "gristmill.yaml").write_text(GOOD)
    (tmp_path / "latin.yaml").write_bytes("name: docs\nlake: ./sée\n".encode("latin-1"))
    (tmp_path / "big.yaml").write_bytes(b"# " + b"x" * (1 << 20))
    for path, message, hint, place in [
        (tmp_path / "absent.yaml", "no such file", "gristmill init", (0, 0)),
        (tmp_path, "a folder", "gristmill.yaml", (0, 0)),
        (tmp_path / "latin.yaml", "0xe9 is not UTF-8", "UTF-8", (2, 10)),
        (tmp_path / "big.yaml", "larger than 1,048,576 bytes", "right file", (0, 0)),
        (tmp_path / "gristmill.yaml" / "x", "cannot be read", "", (0, 0)),
    ]:
        with pytest.raises(InvalidConfigError) as caught:
            load(path)
        (problem,) = caught.value.errors
        assert message in problem.message
        assert hint in problem.hint
        assert (problem.file, problem.line, problem.column) == (str(path), *place)


def test_a_byte_order_mark_is_no_character(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load(tmp_path / "a.yaml").name == "docs"


def test_yaml_and_python_make_one_value(tmp_path: Path) -> None:
    steps = "steps:\n  - pipeline.filters.Quality: {preset: plain}\n  - dedup.MinHash: {threshold: 0.7}\n"
    (tmp_path / "a.yaml").write_text(GOOD + steps + "sink: {lake.Table: {name: t}}\n")
    found = load(tmp_path / "a.yaml")
    same = Config(
        name="docs",
        lake=str(tmp_path / "lake"),
        source=lake.Files(paths="data/*.jsonl"),
        steps=[filters.Quality(preset="plain"), dedup.MinHash(threshold=0.7)],
        sink="t",
        base=tmp_path,
    )
    assert found == same
    assert found.sink == Sink(name="t")


def test_the_forms_of_a_step_are_equal() -> None:
    forms = ["dedup.MinHash", "dedup.MinHash:", "dedup.MinHash: {}", "{dedup.MinHash: ~}"]
    found = [loads(GOOD + f"steps:\n  - {form}\n") for form in forms]
    assert found == [found[0]] * len(forms)
    assert found[0].steps == (dedup.MinHash(),)


def test_relative_places_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    found = load(tmp_path / "a.yaml")
    assert (found.base, found.lake) == (tmp_path, str(tmp_path / "lake"))
    assert found.source[0].paths == "data/*.jsonl"
    for uri in ("s3://bucket/lake", "/lake"):
        (tmp_path / "a.yaml").write_text(GOOD.replace("./lake", uri))
        assert load(tmp_path / "a.yaml").lake == uri


def test_python_hears_everything_at_once_too() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        Config(name="A b", lake="", source=(), steps=[lake.Files(paths="a")])
    assert {each.path for each in caught.value.errors} == {"name", "lake", "source", "steps"}


def test_a_step_that_compares_rows_comes_before_copies() -> None:
    text = GOOD + "steps:\n  - augment.Apply: {policy: trivial_augment_wide}\n  - dedup.MinHash\n"
    with pytest.raises(InvalidConfigError, match="before the first step that makes training copies") as caught:
        loads(text)
    assert (caught.value.errors[0].line, caught.value.errors[0].column) == (6, 5)


OVERRIDES = [
    ("steps.1.threshold=0.7", "threshold: 0.8", "threshold: 0.7"),
    ("steps.dedup.MinHash.threshold=0.7", "threshold: 0.8", "threshold: 0.7"),
    ("steps.1.dedup.MinHash.threshold=0.7", "threshold: 0.8", "threshold: 0.7"),
    ("steps.1.seed=3", "threshold: 0.8", "threshold: 0.8, seed: 3"),
    ("steps.1={dedup.PHash: {}}", "dedup.MinHash: {threshold: 0.8}", "dedup.PHash: {}"),
    ("source.paths=[a, b]", "data/*.jsonl", "[a, b]"),
    ("source.lake.Files.paths=a=b", "data/*.jsonl", "a=b"),
    ("source.columns.stars=int64", "paths: data/*.jsonl", "paths: data/*.jsonl, columns: {stars: int64}"),
    ("lake=./x", "./lake", "./x"),
    ("sink.name=t", "train", "t"),
    ("seed=5", "sink:", "seed: 5\nsink:"),
    ("steps=[]", "steps:\n  - dedup.MinHash: {threshold: 0.8}", "steps: []"),
]


@pytest.mark.parametrize(("override", "old", "new"), OVERRIDES)
def test_an_override_is_the_edit_that_it_names(override: str, old: str, new: str) -> None:
    text = GOOD + "steps:\n  - dedup.MinHash: {threshold: 0.8}\nsink: {lake.Table: {name: train}}\n"
    assert old in text
    assert loads(text, overrides=[override]) == loads(text.replace(old, new))


def test_an_override_reaches_into_a_bare_step() -> None:
    found = loads(GOOD + "steps: [dedup.MinHash]\n", overrides=["steps.1.threshold=0.5"])
    assert found.steps == (dedup.MinHash(threshold=0.5),)


@pytest.mark.parametrize(
    ("override", "column", "message", "hint"),
    [
        ("steps.1.threshold=high", 19, "must be a number, not 'high'", ""),
        ("steps.1.treshold=0.7", 1, "unknown key 'treshold'", "'threshold'"),
        ("steps.2.threshold=1", 1, "there is no item 2: the list has 1, counted from 1", ""),
        ("steps.0.threshold=1", 1, "there is no item 0", ""),
        ("steps.dedup.PHash.threshold=1", 1, "is no item of the list", "counted from 1"),
        ("name.x.y=1", 1, "'name' is a single value", ""),
        ("seed", 1, "is not path=value", "--set"),
        ("=3", 1, "is not path=value", ""),
        ("a..b=3", 1, "has an empty part", ""),
        ("raw=[", 6, "not YAML", ""),
        ("raw=!!str x", 5, "the tag !!str", ""),
        ("stpes=[]", 1, "unknown key 'stpes'", "'steps'"),
        ("name=", 6, "must be a string, not nothing", ""),
    ],
)
def test_a_bad_override_is_told_with_its_place(override: str, column: int, message: str, hint: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        loads(GOOD + "steps: [dedup.MinHash: {}]\n", "a.yaml", [override])
    (problem,) = caught.value.errors
    assert (problem.file, problem.line, problem.column) == ("--set", 1, column)
    assert message in problem.message
    assert hint in problem.hint


def test_a_plugin_brings_its_own_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_steps_of_test.py").write_text(
        "from lake.op import Op, Outcome\n"
        "from lake.schema import no_drops\n"
        "import os\n"
        "__all__ = ['Pass', 'os']\n"
        "class Pass(Op):\n"
        "    'Change nothing.'\n"
        "    times: int = 1\n"
        "    def apply(self, table):\n"
        "        return Outcome(table, no_drops())\n"
        "class Hidden(Pass): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = GOOD + "plugins: [my_steps_of_test]\nsteps:\n  - my_steps_of_test.Pass: {times: 2}\n"
    found = loads(text)
    assert found.steps[0].model_dump() == {"times": 2}
    assert loads(dump(found)) == found
    for name in ("my_steps_of_test.Hidden", "my_steps_of_test.os", "my_steps_of_test.Pas"):
        with pytest.raises(InvalidConfigError, match="is not a step"):
            loads(text.replace("my_steps_of_test.Pass", name))
    with pytest.raises(InvalidConfigError, match="is not a step"):
        loads(text.replace("plugins: [my_steps_of_test]\n", ""))


def test_a_step_that_python_brings_along_is_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "more_steps_of_test.py").write_text(
        "from pydantic import field_validator\n"
        "from lake.errors import ConfigError\n"
        "from lake.op import Op\n"
        "from lake.schema import no_drops\n"
        "from lake.op import Outcome\n"
        "__all__ = ['Picky']\n"
        "class Picky(Op):\n"
        "    file: str = 'here'\n"
        "    @field_validator('file')\n"
        "    @classmethod\n"
        "    def _there(cls, value):\n"
        "        if value != 'here':\n"
        "            raise ConfigError('no such file', why='it is gone', hint='look elsewhere')\n"
        "        return value\n"
        "    def apply(self, table):\n"
        "        return Outcome(table, no_drops())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("more_steps_of_test")
    config = Config(name="a", lake="l", source=lake.Files(paths="a"), steps=[module.Picky()])
    assert config.plugins == ("more_steps_of_test",)
    assert loads(dump(config)) == config
    with pytest.raises(InvalidConfigError) as caught:
        loads(
            dump(config).replace("more_steps_of_test.Picky: {}", "more_steps_of_test.Picky: {file: x}"),
            "a.yaml",
        )
    (problem,) = caught.value.errors
    assert (problem.message, problem.hint) == ("no such file: it is gone", "look elsewhere")
    assert problem.line == 7


def test_a_plugin_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_steps_of_test.py").write_text("import no_such_thing_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidConfigError, match="fails when it is imported: ModuleNotFoundError") as caught:
        loads(GOOD + "plugins: [broken_steps_of_test]\n")
    assert caught.value.errors[0].line == 4


def test_the_documentation_shows_what_loads_and_every_key() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    assert loads(text.split("```yaml\n", 1)[1].split("```", 1)[0]).name == "reviews"
    keys = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    assert keys == set(Config.model_fields) - {"base"}


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
TABLES = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=15)
FILES = st.builds(
    lake.Files,
    paths=st.one_of(TEXT, st.lists(TEXT, min_size=1, max_size=3)),
    text=st.one_of(st.none(), st.sampled_from(["text", "no", "1", "1e5", "~", "a b", ": #"])),
)
STEPS = st.one_of(
    st.builds(
        dedup.MinHash,
        threshold=st.floats(min_value=0.0, max_value=1, exclude_min=True),
        num_perm=st.integers(200, 4096),
        unit=st.sampled_from(["word", "char"]),
        seed=st.integers(0, 2**32 - 1),
    ),
    st.builds(filters.Quality, preset=st.sampled_from(["fineweb", "plain"])),
)
CONFIGS = st.builds(
    Config,
    name=NAMES,
    lake=TEXT.filter(lambda text: "://" not in text),
    source=st.lists(FILES, min_size=1, max_size=2),
    steps=st.lists(STEPS, max_size=3),
    sink=TABLES.filter(lambda name: name not in {"raw", "clean"}).map(lambda name: Sink(name=name)),
    seed=st.integers(0, 2**63 - 1),
    allowed_rejects=st.floats(0, 1),
)


@given(CONFIGS)
def test_what_is_dumped_loads_as_the_same_value(config: Config) -> None:
    assert loads(dump(config)) == config


@given(CONFIGS)
def test_the_full_document_loads_as_the_same_value(config: Config) -> None:
    from pipeline.config.strictyaml import emit

    assert loads(emit(config.to_dict())) == config
    assert config.model_dump(mode="json") == config.to_dict() | {
        "source": [{"lake.Files": each.model_dump(mode="json")} for each in config.source]
    }


def test_loading_stays_light(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        GOOD + "steps:\n  - pipeline.filters.Quality\n  - dedup.MinHash\n  - dedup.PHash\n"
        "  - augment.Apply: {policy: trivial_augment_wide}\n"
    )
    code = (
        "import sys; from pipeline.config import load; load(sys.argv[1]);"
        "print(*sorted({name.split('.')[0] for name in sys.modules} & "
        "{'numba', 'ray', 'datasketch', 'deltalake', 'scipy', 'rich', 'jinja2', 'torch'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.yaml")],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.strip() == ""
