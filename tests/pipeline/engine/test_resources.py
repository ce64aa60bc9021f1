from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dedup
from lake.files import Files
from lake.op import Op
from pipeline.config import Config, InvalidConfigError, dump, loads
from pipeline.config.resources import Resources, size
from pipeline.engine import Needs, local
from pipeline.progress import Silent
from pipeline.stages.context import Context

HEAD = "name: docs\nlake: ./lake\nsource: {lake.Files: {paths: a}}\nsteps: [dedup.MinHash]\n"

BAD = [
    ("resources:\n  dedup.MinHsh: {cpus: 1}\n", 6, 3, "there is no step 'dedup.MinHsh'", "'dedup.MinHash'"),
    (
        "resources:\n  2 dedup.MinHash: {cpus: 1}\n",
        6,
        3,
        "there is no step '2 dedup.MinHash'",
        "'1 dedup.MinHash'",
    ),
    ("resources:\n  dedup.MinHash: {cpu: 1}\n", 6, 19, "unknown key 'cpu'", "'cpus'"),
    ("resources:\n  dedup.MinHash: {memory: much}\n", 6, 27, "a size such as 2GiB", ""),
    ("resources:\n  ingest: {cpus: 0}\n", 6, 18, "must be greater than 0", ""),
    ("resources:\n  ingest: {custom: {GPU: 1}}\n", 6, 20, "GPU has a key of its own", ""),
    ("resources:\n  ingest: 3\n", 6, 11, "must be a mapping such as", ""),
    ("resources: 3\n", 5, 12, "must be a mapping of steps", "write resources:"),
]


@pytest.mark.parametrize(("text", "line", "column", "message", "hint"), BAD)
def test_what_is_wrong_is_told_where_it_stands(text, line, column, message, hint):
    with pytest.raises(InvalidConfigError) as caught:
        loads(HEAD + text)
    (problem,) = caught.value.errors
    assert (problem.line, problem.column) == (line, column)
    assert message in problem.message
    assert hint in problem.hint


@given(
    st.dictionaries(
        st.sampled_from(["ingest", "dedup.MinHash", "1 dedup.MinHash"]),
        st.builds(
            Resources,
            cpus=st.floats(0.1, 64),
            gpus=st.floats(0, 8),
            memory=st.none() | st.integers(1, 1 << 50) | st.sampled_from(["2GiB", "1.5 MB"]),
            custom=st.dictionaries(st.sampled_from(["a", "b"]), st.floats(0.5, 4)),
            actors=st.none() | st.integers(0, 9),
        ),
    )
)
@settings(deadline=None, max_examples=30)
def test_resources_come_back_from_yaml(resources):
    config = Config(
        name="docs", lake="./lake", source=Files(paths="a"), steps=[dedup.MinHash()], resources=resources
    )
    assert loads(dump(config)) == config


def test_python_names_its_steps_too():
    with pytest.raises(InvalidConfigError, match=r"there is no step 'dedup.MinHsh'"):
        Config(name="docs", lake="l", source=Files(paths="a"), resources={"dedup.MinHsh": Resources()})


@pytest.mark.parametrize(
    ("text", "number"), [("2GiB", 2 << 30), ("1.5 MB", 1_500_000), ("7", 7), ("1TB", 10**12)]
)
def test_sizes(text, number):
    assert size(text) == number


def test_a_pass_asks_for_what_its_steps_ask_for():
    context = Context(
        None, local(1), Silent(), {"dedup.MinHash": Resources(memory="1GiB"), "2 b": Resources(cpus=4)}
    )
    label, other = ("1 dedup.MinHash", dedup.MinHash()), ("2 b", Op)
    assert context.asking([label]).needs == Needs(memory=1 << 30)
    assert context.asking([label, other]).needs == Needs(cpus=4, memory=1 << 30)
    assert context.asking([]).needs == Needs()
    cuda = context.asking([("3 dedup.PHash", dedup.PHash(device="cuda"))]).needs
    assert cuda.gpus == 1
    assert cuda.pool is not None
