"""Of each row that goes the pair with its twin, and no other: the tables are those of all pairs."""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable
from hypothesis import example, given, settings
from hypothesis import strategies as st
from killing import finish, kill_driver, kill_worker, start
from small import write_texts

from dedup import Jaccard, Leakage, MinHash, Spread
from dedup.match import EDGES
from dedup.sketch import piece
from dedup.text import join
from dedup.text.walk import cut
from lake import Lake
from lake.delta.scan import part_tables
from lake.errors import InputError
from lake.ids import content_ids
from pipeline import Pipeline, engine
from pipeline.cli import cli
from pipeline.matching import walked as module
from pipeline.matching.index import Index
from pipeline.matching.shuffle import IN_PROCESS, Shuffle
from pipeline.matching.walked import walked
from pipeline.progress import Silent
from pipeline.stages.context import Context
from pipeline.stages.decide import Decider

TWINS = "  - dedup.Jaccard: {threshold: 0.6, pairs: twins}\n"
ALL = "  - dedup.Jaccard: {threshold: 0.6}\n"


def few(texts: list[str], seed: int) -> pa.Table:
    """Texts with ids, in any order."""
    order = random.Random(seed).sample(range(len(texts)), len(texts))
    column = pa.array([texts[at] for at in order], pa.string())
    return pa.table({"_id": content_ids(column, None), "text": column})


def decided(folder: str, match: Jaccard, sketches: list[pa.Table], gone: pa.Array) -> tuple[pa.Table, pa.Table]:
    """What a walk over sketches decides, and the pairs that it stores."""
    lake = Lake(folder)
    scratch = lake.scratch("run-1")
    names = tuple(f"sketch-{number}.arrow" for number in range(len(sketches)))
    for name, sketch in zip(names, sketches, strict=True):
        scratch.write_arrow(name, sketch)
    rows = sum(sketch.num_rows for sketch in sketches)
    work = Shuffle(lake, "run-1", 0, match, names, "_edges_x", rows)
    runner = engine.local(2)
    try:
        state, parts = walked(Context(lake, runner, Silent()), work, "match", pa.chunked_array([gone]))
    finally:
        runner.close()
    found = [table for part in parts for table in part_tables(lake.storage, part, EDGES)]
    return state, pa.concat_tables([EDGES.empty_table(), *found])


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], Jaccard]:
    """Short texts of few words, and a match."""
    words = st.lists(st.sampled_from("abcdefgh"), max_size=8)
    texts = draw(st.lists(words.map(" ".join), max_size=24))
    threshold = draw(st.sampled_from([0.2, 0.5, 0.6, 0.75, 1.0]))
    keep = draw(st.sampled_from([("-length", "_id"), ("length",)]))
    return texts, Jaccard(threshold=threshold, ngram=1, keep=keep, pairs="twins")


CHAIN = [" ".join("abcdefg"[:length]) for length in range(3, 8)]
EQUAL = ["a b", "b a", "a b b", "a a b", "b a a"]


@given(cases(), st.integers(0, 9), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from(["blocks", "one"]))
@settings(max_examples=60, deadline=None)
@example((CHAIN, Jaccard(threshold=0.75, ngram=1, pairs="twins")), 0, 0.0, "blocks")
@example((EQUAL, Jaccard(threshold=0.5, ngram=1, keep=("length",), pairs="twins")), 0, 0.3, "blocks")
def test_the_walk_decides_what_all_pairs_decide(
    case: tuple[list[str], Jaccard], seed: int, share: float, way: str
) -> None:
    texts, match = case
    table = few(texts, seed)
    rng = np.random.default_rng(seed)
    cuts = [0, *np.sort(rng.integers(0, len(texts) + 1, 2)).tolist(), len(texts)]
    sketches = [match.sketch(table.slice(low, high - low)) for low, high in pairwise(cuts)]
    gone = table.column("_id").filter(pa.array(rng.random(len(texts)) < share)).combine_chunks()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if way == "blocks":
            patch.setenv(IN_PROCESS, "0")
            patch.setattr(module, "_BLOCK_BYTES", 300)  # three rows or fewer
        state, pairs = decided(folder, match, sketches, gone)
        pieces = [piece(sketch) for sketch in sketches]
        every = Index(Lake(folder), Jaccard(**{**match.model_dump(), "pairs": "all"}), "about")
        found, _ = every.compare(pieces, [True] * 3, every.known([]))
        assert state.equals(every.decide(pieces, found, [pa.chunked_array([gone])]))
    ends = {frozenset((row["_id"], row["twin"])): row["exact"] for row in state.to_pylist()}
    assert {frozenset((row["left"], row["right"])): row["exact"] for row in pairs.to_pylist()} == ends
    assert pairs.num_rows == state.num_rows


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 100))
def test_blocks_hold_every_row_once(weights: list[int], most: int) -> None:
    bounds = cut(np.array(weights, np.int64), most)
    assert bounds[0] == 0
    assert bounds[-1] == len(weights)
    assert (np.diff(bounds) >= 0).all()
    assert len(bounds) >= 5
    for low, high in pairwise(bounds.tolist()):
        assert sum(weights[low : high - 1]) <= most  # but for the last row of it


# ---------------------------------------------------------------- runs


class Folder:
    """Files that come and go, and lakes that follow them."""

    def __init__(self, path: Path, files: int = 5) -> None:
        self.path, self.follow = path, True
        write_texts(path / "later", files=files)
        (path / "texts").mkdir()

    def come(self, *numbers: int) -> None:
        for number in numbers:
            name = f"part-{number}.jsonl"
            (self.path / "later" / name).rename(self.path / "texts" / name)

    def go(self, *numbers: int) -> None:
        for number in numbers:
            name = f"part-{number}.jsonl"
            (self.path / "texts" / name).rename(self.path / "later" / name)

    def configure(self, steps: str) -> Path:
        path = self.path / "small.yaml"
        path.write_text(
            "name: texts\nlake: ./lake\nallowed_rejects: 0.2\n"
            "source: {lake.Files: {paths: texts/*.jsonl, on_change: %s}}\nsteps:\n"
            % ("follow" if self.follow else "keep")
            + steps
        )
        return path

    def run(self, lake: str, steps: str, where: str = "local") -> dict[str, list[str]]:
        path = self.configure(steps)
        runner = engine.local(2) if where == "local" else engine.ray(workers=2)
        try:
            Pipeline.load(path, [f"lake={self.path / lake}"]).run(runner=runner)
        finally:
            runner.close()
        return told(self.path / lake)


def told(lake: Path) -> dict[str, list[str]]:
    """The rows of all tables but those of the index, the runs and what these noted."""
    found = {}
    for name in Lake(str(lake)).tables():
        if not name.startswith(("_bands_", "_sketches_", "_edges_", "_runs", "_emitted")):
            rows: list[dict[str, Any]] = Lake(str(lake)).table(name).to_table().to_pylist()
            found[name] = sorted(json.dumps(row, sort_keys=True, default=str) for row in rows)
    return found


def decision(tables: dict[str, list[str]]) -> tuple[set[str], list[tuple[str, ...]]]:
    """Who stays, and who goes for whom: all that does not depend on when a row came."""
    drops = [json.loads(row) for row in tables["_drops"]]
    near = [
        tuple(str(row[name]) for name in ("step", "_id", "twin", "exact"))
        for row in drops
        if row["rule"] == "near-duplicate"
    ]
    return {json.loads(row)["_id"] for row in tables["train"]}, sorted(near)


def pairs_of(lake: Path) -> pa.Table:
    """The stored pairs, of the one index that has any."""
    [found] = [
        table
        for name in Lake(str(lake)).tables()
        if name.startswith("_edges_") and (table := Lake(str(lake)).table(name).to_table()).num_rows
    ]
    return found.select(["left", "right", "exact"]).sort_by([("left", "ascending"), ("right", "ascending")])


@pytest.fixture(params=["one process", "blocks"])
def _ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "blocks":
        monkeypatch.setenv(IN_PROCESS, "0")
        monkeypatch.setattr(module, "_BLOCK_BYTES", 6_000)


@pytest.mark.slow
@pytest.mark.usefixtures("_ways")
def test_whatever_comes_and_goes_the_tables_are_those_of_all_pairs(tmp_path: Path) -> None:
    folder, before = Folder(tmp_path), "  - dedup.MinHash: {threshold: 0.985}\n"
    for come, go in (((0, 1, 2), ()), ((4,), ()), ((), (1,)), ((1, 3), (0,))):
        folder.come(*come)
        folder.go(*go)
        wanted = folder.run("all", before + ALL)
        assert folder.run("twins", before + TWINS) == wanted
    assert decision(folder.run("anew", before + TWINS)) == decision(wanted)
    assert len([row for row in decision(wanted)[1] if row[0] == "2 dedup.Jaccard"]) > 3


@pytest.mark.usefixtures("_ways")
def test_a_row_that_comes_later_and_is_the_first_takes_the_place_of_the_one_that_stayed(tmp_path: Path) -> None:
    folder = Folder(tmp_path, files=0)
    words = [f"word{number}" for number in range(60)]
    shorter = " ".join(words[:50])
    near = " ".join([*words[:45], "other"])  # resembles the one that stays at first, and not the one that comes

    def write(name: str, *texts: str) -> None:
        lines = (json.dumps({"text": text}) for text in texts)
        (tmp_path / "texts" / name).write_text("\n".join(lines) + "\n")

    steps = "  - dedup.Jaccard: {threshold: 0.8, ngram: 1, pairs: twins}\n"
    write("a.jsonl", shorter, near)
    assert len(folder.run("twins", steps)["train"]) == 1
    write("b.jsonl", " ".join(words))
    kept = [json.loads(row)["text"] for row in folder.run("twins", steps)["train"]]
    assert sorted(kept) == sorted([" ".join(words), near])
    assert decision(told(tmp_path / "twins")) == decision(folder.run("anew", steps))
    (tmp_path / "texts" / "b.jsonl").unlink()
    assert [json.loads(row)["text"] for row in folder.run("twins", steps)["train"]] == [shorter]


def test_after_a_table_was_rolled_back_or_rows_deleted_the_decision_is_that_of_a_fresh_run(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path)
    folder.come(0, 1)
    first = folder.run("twins", TWINS)
    raw = DeltaTable(str(tmp_path / "twins" / "raw"))
    version = raw.version()
    folder.come(2)
    folder.run("twins", TWINS)
    raw.update_incremental()
    stays = decision(told(tmp_path / "twins"))[1][0][2]  # a row for which another goes
    raw.delete(f"_id = '{stays}'")
    folder.follow = False
    without = folder.run("twins", TWINS)
    assert stays not in decision(without)[0]
    assert decision(folder.run("twins", ALL)) == decision(without)
    raw.restore(version)
    assert decision(folder.run("twins", TWINS)) == decision(first)


def test_the_other_setting_decides_anew_and_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.come(0, 1, 2)
    wanted = folder.run("one", ALL)
    every = pairs_of(tmp_path / "one")
    assert folder.run("one", TWINS) == wanted
    some = pairs_of(tmp_path / "one")
    assert some.num_rows == sum("near-duplicate" in row for row in wanted["_drops"]) < every.num_rows
    folder.come(3)
    wanted = folder.run("anew", ALL)
    assert folder.run("one", ALL) == wanted  # had it taken the pairs of the twins for all, some were missing
    assert pairs_of(tmp_path / "one").equals(pairs_of(tmp_path / "anew"))


def test_a_run_that_lost_some_of_its_files_makes_the_same_ones_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path)
    folder.come(0, 1, 2)
    wanted = folder.run("one", TWINS)
    monkeypatch.setenv(IN_PROCESS, "0")
    monkeypatch.setattr(module, "_BLOCK_BYTES", 6_000)
    rng, inner = random.Random(1), Decider.all

    def torn(self: Decider):
        """Decide, lose half of the files, and decide again."""
        once = inner(self)
        files = sorted((Path(self.context.lake.uri) / "_staging" / self.key).iterdir())
        for path in rng.sample(files, len(files) // 2):
            path.unlink()
        again = inner(self)
        assert {k: v.state for k, v in once.items()} == {k: v.state for k, v in again.items()}
        return again

    monkeypatch.setattr(Decider, "all", torn)
    assert folder.run("many", TWINS) == wanted


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.soak])])
def test_a_driver_killed_in_each_pass_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    folder = Folder(tmp_path)
    folder.come(0, 1, 2)
    wanted = folder.run("one", TWINS)
    monkeypatch.setenv(IN_PROCESS, "0")  # four blocks
    killed = []
    for name in ("0-sets-0.arrow", "0-going-0-2.arrow", "0-going-2-2.arrow", "0-state.arrow"):
        process = start(tmp_path, tmp_path / "many", where)
        while process.poll() is None and not list((tmp_path / "many" / "_staging").glob(f"*/{name}")):
            time.sleep(0.001)
        killed.append(kill_driver(process))
    finish(start(tmp_path, tmp_path / "many", where))
    assert told(tmp_path / "many") == wanted
    assert any(killed)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_killed_in_each_pass_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    folder.come(0, 1, 2)
    wanted = folder.run("one", TWINS)
    monkeypatch.setenv(IN_PROCESS, "0")  # four blocks
    rng, killed = random.Random(3), 0
    for name in ("0-sets-0.arrow", "0-going-0-1.arrow", "0-going-1-1.arrow"):
        lake = tmp_path / name
        process = start(tmp_path, lake, "ray")
        while process.poll() is None and not list((lake / "_staging").glob(f"*/{name}")):
            time.sleep(0.001)
        killed += kill_worker(process, 0, rng)
        finish(process)  # the runner gives the task to another one
        assert told(lake) == wanted
    assert killed


@pytest.mark.ray
def test_ray_gives_the_tables_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    folder.come(0, 1, 2)
    wanted = folder.run("one", TWINS)
    monkeypatch.setenv(IN_PROCESS, "0")
    assert folder.run("many", TWINS, "ray") == wanted


@pytest.mark.usefixtures("_ways")
def test_pages_of_one_template_of_which_all_pairs_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3,000 pages: 4.5 million pairs, where memory is said to have room for 10,000 at a time."""
    monkeypatch.setattr(join, "free_memory", lambda: int(10_000 * join._BYTES_A_PAIR / join._SHARE))
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1_000_000)
    folder = Folder(tmp_path, files=0)
    words = [f"word{number}" for number in range(200)]
    lines = [json.dumps({"text": " ".join([*words, f"own{page}"])}) for page in range(3000)]
    (tmp_path / "texts" / "a.jsonl").write_text("\n".join(lines[:2000]) + "\n")
    if IN_PROCESS not in os.environ:
        with pytest.raises(InputError, match="too many similar texts"):
            folder.run("all", ALL)
    folder.run("twins", TWINS)
    (tmp_path / "texts" / "b.jsonl").write_text("\n".join(lines[2000:]) + "\n")
    found = folder.run("twins", TWINS)
    assert len(found["train"]) == 1
    assert pairs_of(tmp_path / "twins").num_rows == 2999
    [stays] = [json.loads(row)["_id"] for row in found["train"]]
    drops = [json.loads(row) for row in found["_drops"]]
    assert {row["twin"] for row in drops} == {stays}
    assert all(row["exact"] == pytest.approx(196 / 198) for row in drops)  # of 197 shingles one is its own


# ---------------------------------------------------------------- what it says


def gristmill(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, list(arguments))
    return done.exit_code, done.output


def test_what_needs_all_pairs_says_so(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.come(0, 1)
    folder.run("lake", TWINS)
    config = str(folder.configure(TWINS))
    code, out = gristmill("plan", config, "--set", f"lake={tmp_path / 'lake'}")
    assert code in {0, 2}
    assert "pairs: twins" in out
    code, out = gristmill("dedup", "rethreshold", config, "--threshold", "0.9")
    assert code == 2
    assert "1 dedup.Jaccard" in out
    assert "pairs: all" in out
    assert "Traceback" not in out


def test_families_are_a_row_that_stays_and_those_that_go_for_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.come(0, 1, 2)
    drops = [json.loads(row) for row in folder.run("lake", TWINS)["_drops"]]
    config = str(folder.configure(TWINS))
    code, out = gristmill("dedup", "clusters", config, "--json", "--set", f"lake={tmp_path / 'lake'}")
    assert code == 0, out
    rows = [json.loads(line) for line in out.splitlines()]
    gone = {row["_id"]: row["twin"] for row in drops if row["rule"] == "near-duplicate"}
    assert {row["_id"]: row["twin"] for row in rows if not row["kept"]} == gone
    assert {row["_id"] for row in rows if row["kept"]} == set(gone.values())


def test_a_step_that_looks_at_all_pairs_takes_no_match_that_keeps_none() -> None:
    twins = Jaccard(pairs="twins")
    for made in (lambda: Spread(match=twins), lambda: Leakage(split="split", match=twins)):
        with pytest.raises(ValueError, match="looks at all pairs"):
            made()
    assert not MinHash().walks
    assert not Jaccard().walks
