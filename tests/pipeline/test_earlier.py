"""Pairs of earlier runs that no process holds: batch after batch, the tables are those of one process."""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from killing import finish, kill_driver, start
from small import contents, write_pictures, write_texts

from dedup import Spread
from pipeline import Pipeline, engine
from pipeline.matching import earlier
from pipeline.matching.shuffle import IN_PROCESS
from pipeline.matching.sieve import codes
from pipeline.stages.decide import Decider

TWO = "  - dedup.MinHash: {threshold: 0.9}\n  - dedup.MinHash: {threshold: 0.5, keep: [length]}\n"


class Folder:
    """Files that come one after the other, and two lakes that follow them."""

    def __init__(self, path: Path, steps: str, files: int = 5) -> None:
        self.path = path
        write_texts(path / "later", files=files)
        (path / "texts").mkdir()
        (path / "small.yaml").write_text(
            "name: texts\nlake: ./lake\nallowed_rejects: 0.2\n"
            "source: {lake.Files: {paths: texts/*.jsonl, on_change: follow}}\nsteps:\n" + steps
        )

    def come(self, *numbers: int) -> None:
        for number in numbers:
            name = f"part-{number}.jsonl"
            (self.path / "later" / name).rename(self.path / "texts" / name)

    def go(self, number: int) -> None:
        name = f"part-{number}.jsonl"
        (self.path / "texts" / name).rename(self.path / "later" / name)

    def run(self, lake: str, *settings: str, workers: int = 2) -> dict[str, list[str]]:
        runner = engine.local(workers)
        try:
            Pipeline.load(self.path / "small.yaml", [f"lake={self.path / lake}", *settings]).run(runner=runner)
        finally:
            runner.close()
        return contents(self.path / lake)


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way each decision took."""
    taken: list[str] = []
    for name in ("_laid", "_shuffled"):
        inner = getattr(Decider, name)

        def told(self, *args, name=name, inner=inner):
            taken.append(name)
            return inner(self, *args)

        monkeypatch.setattr(Decider, name, told)
    return taken


@pytest.mark.parametrize(
    "most", ["35", pytest.param("0", marks=pytest.mark.slow)], ids=["new rows fit", "nothing fits"]
)
def test_whatever_comes_and_goes_the_tables_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: list[str], most: str
) -> None:
    monkeypatch.setattr(earlier, "_AT_ONCE", 7)
    folder = Folder(tmp_path, TWO)

    def both() -> list[str]:
        """Bring both lakes up to date; the ways that the one took that has many workers."""
        wanted = folder.run("one")
        assert not ways
        monkeypatch.setenv(IN_PROCESS, most)
        assert folder.run("many", workers=3) == wanted
        monkeypatch.delenv(IN_PROCESS)
        taken = ways.copy()
        ways.clear()
        return taken

    folder.come(0, 1, 2, 3)
    assert both() == ["_shuffled"] * 2
    folder.come(4)
    assert both() == (["_laid"] * 2 if most == "35" else ["_shuffled"] * 2)
    folder.go(1)
    assert both() == ["_shuffled"] * 2  # rows are gone: their pairs are looked for again


def test_the_exact_join_of_a_corpus_that_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: list[str]
) -> None:
    folder = Folder(tmp_path, "  - dedup.Jaccard: {threshold: 0.6}\n")
    for numbers in ((0, 1), (2,)):
        folder.come(*numbers)
        wanted = folder.run("one")
        monkeypatch.setenv(IN_PROCESS, "20")
        assert folder.run("many") == wanted
        monkeypatch.delenv(IN_PROCESS)
    assert ways == ["_shuffled"] * 2


def test_another_later_step_decides_again_from_the_stored_pairs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: list[str]
) -> None:
    folder = Folder(tmp_path, TWO)
    folder.come(0, 1)
    folder.run("one")
    folder.run("many")
    more = "steps.2.threshold=0.6"
    wanted = folder.run("one", more)
    monkeypatch.setenv(IN_PROCESS, "0")
    assert folder.run("many", more) == wanted
    assert ways == ["_laid", "_shuffled"]


def test_a_run_that_lost_some_of_its_files_makes_the_same_ones_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier, "_AT_ONCE", 7)
    folder = Folder(tmp_path, TWO)
    folder.come(0, 1, 2, 3)
    folder.run("one")
    folder.run("many")
    folder.come(4)
    wanted = folder.run("one")
    monkeypatch.setenv(IN_PROCESS, "35")
    rng, inner = random.Random(1), Decider.all

    def torn(self: Decider):
        """Decide, lose half of the files, and decide again."""
        once = inner(self)
        staging = Path(self.context.lake.uri) / "_staging" / self.key
        if staging.exists():
            files = sorted(path for path in staging.iterdir() if path.is_file())
            for path in rng.sample(files, len(files) // 2):
                path.unlink()
        again = inner(self)
        assert {k: v.state for k, v in once.items()} == {k: v.state for k, v in again.items()}
        assert {k: v.digests for k, v in once.items()} == {k: v.digests for k, v in again.items()}
        return again

    monkeypatch.setattr(Decider, "all", torn)
    assert folder.run("many") == wanted


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.soak])])
def test_a_driver_killed_in_each_pass_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    folder = Folder(tmp_path, TWO)
    folder.come(0, 1, 2, 3)
    folder.run("one")
    folder.run("many")
    folder.come(4)
    wanted = folder.run("one")
    monkeypatch.setenv(IN_PROCESS, "35")
    killed = []
    for name in ("0-esieve-0.arrow", "0-eids-0.arrow", "0-everified-3.arrow", "1-estatus-1.arrow"):
        process = start(tmp_path, tmp_path / "many", where)
        while process.poll() is None and not list((tmp_path / "many" / "_staging").glob(f"*/{name}")):
            time.sleep(0.001)
        killed.append(kill_driver(process))
    finish(start(tmp_path, tmp_path / "many", where))
    assert contents(tmp_path / "many") == wanted
    assert any(killed)


@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=34) | st.from_regex("[0-9a-f]{32}", fullmatch=True))
)
def test_codes_tell_ids_apart(ids: list[str]) -> None:
    column = pa.chunked_array([ids[:3], ids[3:]], pa.string())
    key, other = codes(column)
    seen = {}
    for each, pair in zip(ids, zip(key.tolist(), other.tolist(), strict=True), strict=True):
        assert seen.setdefault(each, pair) == pair
    assert len(set(seen.values())) == len(seen)


def test_the_code_of_an_id_does_not_depend_on_its_neighbours() -> None:
    hexadecimal = f"{7:032x}"
    alone = codes(pa.chunked_array([[hexadecimal]]))
    beside = codes(pa.chunked_array([["x", hexadecimal, "Ä" * 16]]))
    assert [each[1] for each in beside] == [each[0] for each in alone]


def test_rows_are_found_by_both_halves_of_their_code(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.arange(100, dtype=np.uint64)
    key, other = numbers % np.uint64(5), numbers // np.uint64(5)  # many have a half in common
    order = np.argsort(key, kind="stable")
    asked = np.array([3, 500, 99, 0, 3], np.uint64)
    monkeypatch.setattr(earlier, "codes", lambda _: (asked % np.uint64(5), asked // np.uint64(5)))
    rows = numbers.astype(np.int32)
    found = earlier._find(pa.chunked_array([[]], pa.string()), key[order], other[order], rows[order])
    assert found.tolist() == [3, -1, 99, 0, 3]


@pytest.mark.parametrize(
    ("first", "across"),
    [
        ("dedup.MinHash: {threshold: 0.7}", "pairs"),
        pytest.param("dedup.Jaccard: {threshold: 0.5}", "families", marks=pytest.mark.slow),
    ],
)
def test_labels_go_along_the_pairs_that_the_match_has_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, across: str
) -> None:
    spread = f"  - dedup.Spread: {{match: {{{first}}}, across: {across}, threshold: 0.7}}\n"
    folder = Folder(tmp_path, f"  - dedup.MinHash: {{threshold: 0.95, keep: [length]}}\n  - {first}\n" + spread)
    for file in (tmp_path / "later").iterdir():
        file.write_text(re.sub(r'"label": "[01]", ("page": \d*[05])', r"\1", file.read_text()))
    inner, known = Spread.resolve, []

    def told(self: Spread, sketches: list[pa.Table], pairs: pa.Table | None = None) -> pa.Table:
        known.append(pairs)
        return inner(self, sketches, pairs)

    def anew(self: Spread, sketches: list[pa.Table], pairs: pa.Table | None = None) -> pa.Table:
        assert pairs is not None
        return inner(self, sketches)

    for number, most in enumerate(("1000", "0")):
        folder.come(number)
        monkeypatch.setattr(Spread, "resolve", anew)
        wanted = folder.run("one")
        monkeypatch.setattr(Spread, "resolve", told)
        monkeypatch.setenv(IN_PROCESS, most)
        assert folder.run("many") == wanted
        monkeypatch.delenv(IN_PROCESS)
    assert [each.num_rows > 0 for each in known] == [True] * 2
    assert any('"label_from": "' in row for row in wanted["train"])


def test_pairs_of_pictures_are_laid_out_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: list[str]
) -> None:
    folder = Folder(tmp_path, "  - dedup.PHash: {threshold: 0.6, radius: 20}\n", files=0)
    config = tmp_path / "small.yaml"
    config.write_text(config.read_text().replace("texts/*.jsonl", "texts/**/*.png"))
    write_pictures(tmp_path / "all", per_class=6)
    for kinds in (("upright", "lying"), ("slanted",)):
        for kind in kinds:
            (tmp_path / "all" / kind).rename(tmp_path / "texts" / kind)
        wanted = folder.run("one")
        monkeypatch.setenv(IN_PROCESS, "0")
        assert folder.run("many") == wanted
        monkeypatch.delenv(IN_PROCESS)
    assert ways == ["_laid"]
    assert any(len(rows) > 3 for name, rows in wanted.items() if name.startswith("_edges_"))


def test_new_rows_that_come_first_in_a_crowded_bucket_have_all_compared_again_by_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: list[str]
) -> None:
    folder = Folder(tmp_path, "  - dedup.MinHash: {threshold: 0.9, bands: [4, 1]}\n", files=0)
    rng, words = random.Random(4), [f"word{n}" for n in range(400)]

    def write(name: str, rows: int, more: int) -> None:
        """Texts that have a page in common; the longer ones come first."""
        lines = [" ".join(words[:60] + rng.choices(words, k=more)) for _ in range(rows)]
        text = "".join(json.dumps({"text": line}) + "\n" for line in [*lines, lines[0] + "!"])
        (tmp_path / "texts" / name).write_text(text)

    write("a.jsonl", 150, 40)
    folder.run("one")
    folder.run("many")
    write("b.jsonl", 10, 90)
    wanted = folder.run("one")
    monkeypatch.setenv(IN_PROCESS, "155")  # the new rows fit, and the stored pairs; all rows do not
    assert folder.run("many") == wanted
    assert ways == ["_shuffled"]
