"""Files that come late, grow, change, are renamed or go: the tables are those of one run over what is there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from following import CONFIG, TEXTS, Folder, comparable, lines
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lake import files
from lake.errors import ConfigError
from lake.formats import splits
from lake.ids import content_ids
from lake.lake import Lake
from pipeline.why import why

FORGETFUL = Path(__file__).parents[1] / "support" / "forgetful.py"

NAMES = st.sampled_from([f"{letter}.{kind}" for letter in "abc" for kind in ("jsonl", "csv", "txt")])
ROWS = st.lists(st.tuples(st.integers(0, len(TEXTS) - 1), st.integers(0, 3)), min_size=1, max_size=4)


def written(name: str, rows: list[tuple[int, int]], *, last: bool) -> str:
    if name.endswith(".csv"):
        return "text,label\n" + "".join(f"{TEXTS[text]},{label}\n" for text, label in rows)
    if name.endswith(".txt"):
        return TEXTS[rows[0][0]]
    return lines(rows, last=last)


class Following(RuleBasedStateMachine):
    """Whatever becomes of the files."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp()
        self.folder = Folder(Path(self.root))

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in (self.folder.path / "data").iterdir() if path.name != "m.jsonl")

    @initialize(rows=ROWS)
    def first(self, rows: list[tuple[int, int]]) -> None:
        self.folder.write("m.jsonl", lines(rows))
        self.lake = self.folder.run()

    @rule(name=NAMES, rows=ROWS, last=st.booleans())
    def write(self, name: str, rows: list[tuple[int, int]], last: bool) -> None:
        self.folder.write(name, written(name, rows, last=last))

    @precondition(lambda self: self.files)
    @rule(data=st.data(), rows=ROWS, last=st.booleans())
    def grow(self, data: st.DataObject, rows: list[tuple[int, int]], last: bool) -> None:
        file = data.draw(st.sampled_from(self.files))
        more = written(file.name, rows, last=last).removeprefix("text,label\n")
        self.folder.write(file.name, file.read_text() + more)

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.files)).unlink()

    @precondition(lambda self: self.files)
    @rule(data=st.data(), name=NAMES)
    def rename(self, data: st.DataObject, name: str) -> None:
        file = data.draw(st.sampled_from(self.files))
        if file.suffix == Path(name).suffix:
            file.rename(file.with_name(name))

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(self.files))
        self.folder.write(file.name, file.read_text())

    @rule(names=st.sets(NAMES | st.just("m.jsonl"), min_size=1))
    def refuse(self, names: set[str]) -> None:
        """A run that cannot open some of the files, as an object store does it: only when it reads them."""
        inner = files._outcomes

        def refused(piece: Any, address: str, how: Any) -> Any:
            if Path(address).name in names:
                raise PermissionError(13, "AccessDenied")
            return inner(piece, address, how)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "_outcomes", refused)
            self.folder.run()

    @rule()
    def keep(self) -> None:
        self.folder.run("source.on_change=keep")

    @rule()
    def another_hand(self) -> None:
        DeltaTable(self.lake.table("raw").uri).delete("label = '1'")

    @rule()
    def run(self) -> None:
        planned = self.folder.pipeline().plan()
        status = self.folder.pipeline().run().status
        assert (status == "unchanged") is not planned.changes
        assert comparable(self.lake) == self.folder.once()
        assert self.folder.pipeline().run().status == "unchanged"

    @invariant()
    def whole(self) -> None:
        """Rows and repeats are the rows of files: each place once."""
        if hasattr(self, "lake"):
            ids = self.lake.table("raw").to_table(columns=["_id"]).column("_id").to_pylist()
            assert len(ids) == len(set(ids))


TestFollowing = pytest.mark.soak(pytest.mark.timeout(1800)(Following.TestCase))
Following.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)


def rule_of(lake: Lake, text: int) -> list[str]:
    [id_] = content_ids(pa.array([TEXTS[text]]), None).to_pylist()
    return [drop["rule"] for drop in why(lake, id_)[0].drops]


def test_a_seeded_walk_through_all_that_can_become_of_files(folder: Folder) -> None:
    def check() -> None:
        assert comparable(folder.run()) == folder.once()

    folder.run()
    folder.write("a.jsonl", lines([(3, 5), (12, 5)]), at=5)  # late, and before the others: its row counts
    check()
    folder.write("b.jsonl", lines([(0, 0), (7, 2)]))  # 3 and 6 are no more, 7 is new
    check()
    (folder.path / "data" / "a.jsonl").unlink()  # text 3 comes back from m.jsonl, with the label from there
    check()
    folder.write("m.jsonl", lines([(3, 9), (9, 1), (15, 1)], last=False))
    folder.run()
    folder.write("m.jsonl", lines([(3, 9), (9, 1), (15, 1), (16, 2)]))  # the half line and one more
    check()
    (folder.path / "data" / "b.jsonl").rename(folder.path / "data" / "n.jsonl")
    check()
    assert folder.pipeline().run().status == "unchanged"


def test_places_that_are_no_more_are_in_the_ledger_and_why_tells(folder: Folder) -> None:
    lake = folder.run()
    folder.write("b.jsonl", lines([(0, 0)]))
    assert "places that are no more: 2 source-changed" in folder.pipeline().run().summary()
    assert rule_of(lake, 6) == ["source-changed"]
    (folder.path / "data" / "b.jsonl").unlink()
    folder.run()
    assert rule_of(lake, 0) == ["source-gone"]
    folder.write("b.jsonl", lines([(0, 0), (6, 1)]))  # and back: nothing is said of the past of what is there
    folder.run()
    assert rule_of(lake, 0) == []
    assert rule_of(lake, 6) == []


def test_by_default_rows_stay_and_the_plan_says_so(folder: Folder) -> None:
    folder.path.joinpath("follow.yaml").write_text(CONFIG.replace(", on_change: follow", ""))
    lake = folder.run()
    before = lake.table("raw").count()
    (folder.path / "data" / "b.jsonl").unlink()
    planned = folder.pipeline().plan()
    assert not planned.changes
    assert "1 files are gone; their rows stay" in planned.render()
    folder.write("m.jsonl", lines([(9, 1)]))
    assert "rows that are in it no more stay" in folder.pipeline().plan().render()
    folder.run()
    assert lake.table("raw").count() == before
    # From now on the files are followed.
    folder.path.joinpath("follow.yaml").write_text(CONFIG)
    planned = folder.pipeline().plan()
    assert "1 gone" in planned.render()
    assert "its rows leave" in planned.render()
    folder.run()
    assert lake.table("raw").count() < before


def test_a_lake_that_kept_rows_so_far_is_put_in_order(folder: Folder) -> None:
    folder.path.joinpath("follow.yaml").write_text(CONFIG.replace(", on_change: follow", ""))
    folder.run()
    folder.write("a.jsonl", lines([(3, 5), (12, 5)]))
    folder.run()
    folder.path.joinpath("follow.yaml").write_text(CONFIG)
    folder.write("z.jsonl", lines([(17, 1)]))
    assert comparable(folder.run()) == folder.once()


def test_late_files_and_the_watermark(folder: Folder) -> None:
    folder.run()
    folder.write("c.jsonl", lines([(12, 1)]), at=5)
    folder.write("d.jsonl", lines([(13, 1)]))
    assert "1 new, 1 late" in folder.pipeline().plan().render()


def test_a_file_that_cannot_be_opened_keeps_its_rows(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = folder.run()
    before = lake.table("raw").count()
    folder.write("b.jsonl", lines([(0, 0)]))
    with monkeypatch.context() as patch:
        inner = splits.readable  # the tests run as root, whom no mode keeps out
        patch.setattr(splits, "readable", lambda address: "b.jsonl" not in address and inner(address))
        assert "cannot be opened" in folder.pipeline().plan().render()
        folder.run()
        assert lake.table("raw").count() == before
    folder.run()
    assert comparable(lake)["raw"] == folder.once()["raw"]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_killed_at_any_moment_and_started_again_it_ends_in_the_same_state(folder: Folder) -> None:
    folder.write("a.jsonl", lines([(3, 5), (12, 5)]))
    folder.run()
    (folder.path / "data" / "a.jsonl").unlink()  # text 3 comes back from b.jsonl
    folder.write("m.jsonl", lines([(3, 9), (10, 1)]))
    work = folder.path / "work"
    work.mkdir()
    config = str(folder.path / "follow.yaml")
    command = [sys.executable, str(FORGETFUL), str(folder.path / "lake"), str(work), "1", "run", config]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    tried, moments = map(int, done.stdout.split())
    assert tried == moments > 40
    assert comparable(Lake(str(work / "lake"))) == folder.once()


def test_sources_must_agree_and_not_share_a_file(folder: Folder) -> None:
    one = "{lake.Files: {paths: data/b.jsonl, on_change: %s}}"
    two = "{lake.Files: {paths: data, text: %s, on_change: follow}}"
    for on_change, text, words in (("keep", "text", "some sources keep"), ("follow", "page", "the same file")):
        source = f"[{one % on_change}, {two % text}]"
        changed = CONFIG.replace("{lake.Files: {paths: data, on_change: follow}}", source)
        folder.path.joinpath("follow.yaml").write_text(changed)
        with pytest.raises(ConfigError, match=words):
            folder.pipeline().plan()
