"""A corpus that does not fit one process: a shuffle and rounds come to the decision of one process."""

from __future__ import annotations

import pickle
import random
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from small import contents, write_texts

from dedup import Cosine, Jaccard, MinHash
from dedup.match import EDGES, Match, name_edges
from dedup.shuffle import meet
from dedup.sketch import piece
from lake import Files
from lake.errors import ConfigError
from lake.ids import content_ids
from lake.lake import Change, Lake
from pipeline import Pipeline, engine
from pipeline.matching import shuffle
from pipeline.matching.index import Index
from pipeline.matching.joined import joined
from pipeline.matching.select import selected
from pipeline.matching.shuffle import IN_PROCESS, Shuffle, shuffled
from pipeline.progress import Silent
from pipeline.stages.context import Context

WORDS = [f"word{i}" for i in range(300)]


def texts(count: int, seed: int) -> list[str]:
    """Chains of edited texts, and copies that differ in punctuation only."""
    rng = random.Random(seed)
    found: list[list[str]] = []
    while len(found) < count:
        if found and rng.random() < 0.7:
            words = list(rng.choice(found[-30:]))
            if rng.random() < 0.6:
                words[rng.randrange(len(words))] = rng.choice(WORDS)
        else:
            words = WORDS[:30] + rng.choices(WORDS, k=rng.randint(5, 30))
        found.append(words)
    return sorted({" ".join(words) + rng.choice(["", "!", "?", "."]) for words in found})


def table_of(match: Match, seed: int) -> pa.Table:
    column = pa.array(texts(400, seed))
    table = pa.table({"_id": content_ids(column, None), "text": column})
    if isinstance(match, Cosine):
        near = np.random.default_rng(seed).normal(size=(40, 16))[np.arange(len(column)) % 40]
        near += np.random.default_rng(seed + 1).normal(size=near.shape) * 0.05
        kind = pa.list_(pa.float32())
        table = table.append_column("embedding", pa.array(near.astype(np.float32).tolist(), kind))
    return table


class Work:
    """A match over a table in five parts, staged in a lake."""

    def __init__(self, folder: Path, match: Match, seed: int) -> None:
        self.lake = Lake(str(folder))
        self.index = Index(self.lake, match, "about")
        table = table_of(match, seed)
        table = table.take(np.random.default_rng(seed).permutation(table.num_rows))
        cuts = [0, 0, 90, 91, 250, table.num_rows]
        self.sketches = [match.sketch(table.slice(a, b - a)) for a, b in pairwise(cuts)]
        scratch = self.lake.scratch("run-1")
        names = [f"sketch-{n}.arrow" for n in range(len(self.sketches))]
        for name, sketch in zip(names, self.sketches, strict=True):
            scratch.write_arrow(name, sketch)
        rows = sum(each.num_rows for each in self.sketches)
        self.shuffle = Shuffle(self.lake, "run-1", 0, match, tuple(names), self.index.edges, rows)
        self.ids = pa.chunked_array([c for s in self.sketches for c in s.column("_id").chunks], pa.string())

    def run(self, gone: pa.Array | None = None) -> tuple[pa.Table, pa.Table]:
        """The decision, and the pairs in order."""
        runner = engine.local(2)
        try:
            context = Context(self.lake, runner, Silent())
            way = joined if self.index.match.joins else shuffled
            parts = way(context, self.shuffle, "match")
            state = selected(context, self.shuffle, "match", None if gone is None else pa.chunked_array([gone]))
        finally:
            runner.close()
        self.lake.commit([Change(self.index.edges, EDGES, parts)], app="test", version=1)
        pairs = self.lake.table(self.index.edges).to_table()
        return state, pairs.sort_by([("left", "ascending"), ("right", "ascending")])

    def pairs(self) -> pa.Table:
        """Those of one process."""
        corpus = self.index.match.corpus([piece(each) for each in self.sketches])
        return name_edges(corpus, self.index.match.edges(corpus))


MATCHES = [
    MinHash(threshold=0.8),
    MinHash(threshold=0.6, bands=(64, 1)),  # hot: everything shares a bucket with everything
    MinHash(threshold=0.7, keep=("length",)),
    Cosine(threshold=0.9),
    Jaccard(threshold=0.5),
]
NAMES = ["banded", "hot", "keep", "vectors", "join"]


@pytest.mark.parametrize("match", MATCHES, ids=NAMES)
def test_pairs_and_decision_are_those_of_one_process(tmp_path: Path, match: Match) -> None:
    work = Work(tmp_path, match, 1)
    state, pairs = work.run()
    assert pairs.equals(work.pairs())
    assert state.equals(match.resolve(work.sketches))
    assert state.num_rows > 30


@pytest.mark.parametrize("match", MATCHES, ids=NAMES)
@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_rows_that_earlier_steps_dropped_are_out_of_it(tmp_path: Path, match: Match, share: float) -> None:
    work = Work(tmp_path, match, 2)
    some = np.random.default_rng(5).random(len(work.ids)) < share
    gone = work.ids.filter(pa.array(some)).combine_chunks()
    state, pairs = work.run(gone)
    wanted = work.index.decide([piece(each) for each in work.sketches], pairs, [pa.chunked_array([gone])])
    assert state.equals(wanted)
    assert pairs.num_rows > 100
    assert (state.num_rows > 5) == (share < 1)


def test_of_copies_the_next_that_is_left_takes_the_pairs_though_others_stand_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffle, "meet", partial(meet, most=1))  # of each bucket the first row alone has pairs
    plain = " ".join(WORDS[:60])
    column = pa.array([f"{plain} {'!' * 80}", f"{plain} more", plain])  # the longest is the first
    ids = content_ids(column, None)
    lake, match = Lake(str(tmp_path)), MinHash(threshold=0.8)
    lake.scratch("run-1").write_arrow("s.arrow", match.sketch(pa.table({"_id": ids, "text": column})))
    work = Shuffle(lake, "run-1", 0, match, ("s.arrow",), "_edges_x", 3)
    context = Context(lake, engine.local(1), Silent())
    assert len(shuffled(context, work, "match")) > 0
    state = selected(context, work, "match", pa.chunked_array([ids.slice(0, 1)]))
    assert state.select(["_id", "twin"]).to_pylist() == [{"_id": ids[2].as_py(), "twin": ids[1].as_py()}]


@pytest.mark.parametrize(("seed", "match"), [(0, 1), (1, 1), (2, 1), (3, 4), (4, 4)])
def test_a_run_that_lost_some_of_its_files_makes_the_same_ones_again(
    tmp_path: Path, seed: int, match: int
) -> None:
    rng = random.Random(seed)
    work = Work(tmp_path, MATCHES[match], 3)
    gone = work.ids.slice(0, 40).combine_chunks()
    folder = Path(work.lake.uri) / "_staging" / "run-1"
    state, pairs = work.run(gone)
    files = {path: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("sketch")}
    for path in rng.sample(sorted(files), len(files) // 2):
        path.unlink()
    again = work.run(gone)
    assert again[0].equals(state)
    assert again[1].equals(pairs)
    made = {path: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("sketch")}
    needed = {
        path: data for path, data in files.items() if "-tally-" not in path.name
    }  # that have been added up
    assert made | needed == made == {path: files[path] for path in made}


def test_what_travels_to_a_worker_is_small(tmp_path: Path) -> None:
    work = Work(tmp_path, MATCHES[0], 1).shuffle
    assert sum(each.head.num_rows for each in work.pieces) == work.rows
    data = pickle.dumps(work)
    assert len(data) < 2000
    assert pickle.loads(data) == work


def test_a_corpus_without_a_pair(tmp_path: Path) -> None:
    match = MinHash()
    table = pa.table({"text": ["one two three four five six", "seven eight nine ten eleven", None, "..."]})
    table = table.append_column("_id", content_ids(table.column("text"), None))
    lake = Lake(str(tmp_path))
    lake.scratch("run-1").write_arrow("sketch.arrow", match.sketch(table))
    work = Shuffle(lake, "run-1", 0, match, ("sketch.arrow",), "_edges_x", match.sketch(table).num_rows)
    context = Context(lake, engine.local(1), Silent())
    assert shuffled(context, work, "match") == ()
    assert selected(context, work, "match").num_rows == 0


def test_two_matches_of_a_pipeline_leave_the_tables_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(tmp_path / "texts", files=4)
    write_texts(tmp_path / "later", files=5)
    (tmp_path / "texts.yaml").write_text(
        "name: texts\nlake: ./lake\nallowed_rejects: 0.2\nsource: {lake.Files: {paths: texts/*.jsonl}}\n"
        "steps:\n  - dedup.MinHash: {threshold: 0.9}\n  - dedup.MinHash: {threshold: 0.5, keep: [length]}\n"
    )

    def run(lake: str) -> dict[str, list[str]]:
        Pipeline.load(tmp_path / "texts.yaml", [f"lake={tmp_path / lake}"]).run()
        return contents(tmp_path / lake)

    wanted = run("one")
    monkeypatch.setenv(IN_PROCESS, "0")
    assert run("many") == wanted
    assert len([name for name in wanted if name.startswith("_edges_") and len(wanted[name]) > 5]) == 2
    monkeypatch.delenv(IN_PROCESS)
    (tmp_path / "later" / "part-4.jsonl").rename(tmp_path / "texts" / "part-4.jsonl")
    assert run("many") == run("one") != wanted  # the next batch finds what the shuffle left


def test_more_rows_than_can_be_numbered_are_refused_before_one_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stages.decide._MOST_ROWS", 40)
    write_texts(tmp_path / "texts", files=2)
    made = Pipeline(
        name="many",
        lake=str(tmp_path / "lake"),
        allowed_rejects=0.5,
        source=Files(paths=str(tmp_path / "texts" / "*.jsonl")),
        steps=[MinHash(threshold=0.8)],
    )
    with pytest.raises(ConfigError, match="rows are more than one match numbers"):
        made.run()
