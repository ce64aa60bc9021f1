"""Rows that follow their files, where something is in the way: closed files, other sources, another hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from following import CONFIG, TEXTS, Folder, comparable, lines

from lake import files
from lake.errors import InputError
from lake.ids import content_ids
from lake.lake import Lake
from pipeline.why import why

KEEP = CONFIG.replace(", on_change: follow", "")
SOURCE = "{lake.Files: {paths: data, on_change: follow}}"


Closed = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Closed:
    """Files that are listed, and refused when they are opened, as an object store does it."""
    inner = files._outcomes

    @contextmanager
    def names(*closed: str) -> Iterator[None]:
        def read(piece: Any, address: str, how: Any) -> Any:
            if address.endswith(closed):
                raise PermissionError(13, "AccessDenied")
            return inner(piece, address, how)

        with monkeypatch.context() as patch:
            patch.setattr(files, "_outcomes", read)
            yield

    return names


def places(lake: Lake) -> dict[int, str]:
    """Of each text that has a row the file it stands in."""
    rows = lake.table("raw").to_table(columns=["text", "_source"]).to_pylist()
    return {TEXTS.index(row["text"]): row["_source"]["uri"].removeprefix("data/") for row in rows}


def refusals(lake: Lake) -> int:
    return lake.table("_drops").to_table().column("rule").to_pylist().count("unreadable-file")


def test_a_changed_file_that_is_refused_when_it_is_read_keeps_its_rows(folder: Folder, closed: Closed) -> None:
    lake = folder.run()
    before = places(lake)
    folder.write("b.jsonl", lines([(0, 0), (12, 1)]))
    with closed("b.jsonl"):
        for _ in range(2):
            folder.run()
            assert places(lake) == before
            assert refusals(lake) == 1
    assert comparable(folder.run()) == folder.once()


def test_a_content_goes_to_the_next_file_that_can_be_opened(folder: Folder, closed: Closed) -> None:
    folder.write("n.jsonl", lines([(3, 4), (15, 1)]))
    lake = folder.run()
    (folder.path / "data" / "b.jsonl").unlink()  # text 3 is that of m.jsonl now, which is closed
    with closed("m.jsonl"):
        for _ in range(2):
            folder.run()
            assert places(lake) == {3: "n.jsonl", 9: "m.jsonl", 15: "n.jsonl"}
            assert refusals(lake) == 1
    assert comparable(folder.run()) == folder.once()
    assert places(lake)[3] == "m.jsonl"
    assert folder.pipeline().run().status == "unchanged"


def without_rights(*command: str) -> subprocess.CompletedProcess[str]:
    """Run something as a user whom permissions keep out."""
    mighty = os.geteuid() == 0
    prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if mighty else []
    return subprocess.run([*prefix, *command], capture_output=True, text=True, check=False)


def test_a_glob_over_a_folder_that_cannot_be_listed_ends_the_run(folder: Folder) -> None:
    """Its files would be gone for it, and their rows would leave."""
    inner = folder.path / "data" / "inner"
    inner.mkdir()
    (inner / "q.jsonl").write_text(lines([(12, 1)]))
    folder.path.joinpath("follow.yaml").write_text(CONFIG.replace("paths: data", "paths: data/**/*.jsonl"))
    before = places(folder.run())
    inner.chmod(0)
    try:
        command = f"from pipeline import Pipeline; Pipeline.load({str(folder.path / 'follow.yaml')!r}).run()"
        done = without_rights(sys.executable, "-c", command)
    finally:
        inner.chmod(0o700)
    if "setpriv" in done.stderr:
        pytest.skip(done.stderr)
    assert "cannot list a folder" in done.stderr
    assert places(Lake(str(folder.path / "lake"))) == before


def test_a_folder_that_is_there_and_empty_is_an_error(folder: Folder) -> None:
    lake = folder.run()
    before = places(lake)
    for file in (folder.path / "data").iterdir():
        file.unlink()
    with pytest.raises(InputError):
        folder.run()
    assert places(lake) == before


def test_a_volume_that_is_not_mounted_is_told_and_can_be_refused(folder: Folder) -> None:
    inner = folder.path / "data" / "volume"
    inner.mkdir()
    for name in "xyz":
        (inner / f"{name}.jsonl").write_text(lines([(12 + ord(name) % 3, 1), (15 + ord(name) % 3, 1)]))
    lake = folder.run("allowed_leaving=0.5")
    before = places(lake)
    inner.rename(folder.path / "elsewhere")
    inner.mkdir()
    assert "careful: 3 of the 5 files that were taken are gone" in folder.pipeline().plan().render()
    with pytest.raises(InputError, match="6 of the 10 rows of raw would leave"):
        folder.run("allowed_leaving=0.5")
    assert places(lake) == before
    assert "warning: 4 rows are left of 10" in folder.pipeline().run().summary()
    assert comparable(lake) == folder.once()
    inner.rmdir()
    (folder.path / "elsewhere").rename(inner)
    assert comparable(folder.run("allowed_leaving=0.5")) == folder.once()
    for file in inner.iterdir():  # their rows come again under other names
        file.rename(file.with_name(f"new-{file.name}"))
    folder.run("allowed_leaving=0")


def test_a_link_that_leads_nowhere_keeps_its_rows(folder: Folder) -> None:
    volume = folder.path / "volume"
    volume.mkdir()
    (volume / "q.jsonl").write_text(lines([(12, 1)]))
    (folder.path / "data" / "q.jsonl").symlink_to(volume / "q.jsonl")
    lake = folder.run()
    before = places(lake)
    volume.rename(folder.path / "elsewhere")
    folder.run()
    assert places(lake) == before
    (folder.path / "elsewhere").rename(volume)
    assert comparable(folder.run()) == folder.once()


def test_a_lake_that_kept_rows_of_replaced_files_is_put_in_order_at_once(folder: Folder) -> None:
    folder.path.joinpath("follow.yaml").write_text(KEEP)
    lake = folder.run()
    folder.write("m.jsonl", lines([(12, 1)]))
    folder.run()
    assert 9 in places(lake)
    folder.path.joinpath("follow.yaml").write_text(CONFIG)
    assert "1 reread" in folder.pipeline().plan().render()
    assert comparable(folder.run()) == folder.once()
    assert not folder.pipeline().plan().changes


def test_a_lake_that_is_in_order_already_is_left_as_it_is(folder: Folder) -> None:
    folder.path.joinpath("follow.yaml").write_text(KEEP)
    lake = folder.run()
    before = [lake.table("raw").data_version, lake.table("train").version, lake.table("_files").version]
    folder.path.joinpath("follow.yaml").write_text(CONFIG)
    assert "raw may change: rows are put in the order of the sources" in folder.pipeline().plan().render()
    folder.run()
    assert [lake.table("raw").data_version, lake.table("train").version, lake.table("_files").version] == before
    assert folder.pipeline().run().status == "unchanged"


def test_sources_in_another_order_change_which_place_comes_first(folder: Folder) -> None:
    one, two = (f"{{lake.Files: {{paths: data/{name}.jsonl, on_change: follow}}}}" for name in "bm")
    for order in (f"[{one}, {two}]", f"[{two}, {one}]", f"[{one}, {two}]"):
        folder.path.joinpath("follow.yaml").write_text(CONFIG.replace(SOURCE, order))
        planned = folder.pipeline().plan()
        assert comparable(folder.run()) == folder.once()
        assert not folder.pipeline().plan().changes
    assert "rows are put in the order of the sources" in planned.render()


def test_a_table_that_another_hand_changed_is_read_again(folder: Folder) -> None:
    lake = folder.run()
    version = lake.table("raw").version
    folder.write("z.jsonl", lines([(15, 1)]))
    folder.run()
    for change in (lambda raw: raw.restore(version), lambda raw: raw.delete("label = '1'")):
        change(DeltaTable(lake.table("raw").uri))
        assert comparable(folder.run()) == folder.once()
        assert folder.pipeline().run().status == "unchanged"


def test_a_place_that_is_no_more_leaves_nothing_when_its_content_is_forgotten(folder: Folder) -> None:
    lake = folder.run()
    (folder.path / "data" / "b.jsonl").unlink()
    folder.run()
    [gone, there] = content_ids(pa.array([TEXTS[6], TEXTS[3]]), None).to_pylist()
    done = folder.pipeline().forget([gone, there], purge=True)
    assert done.places == ("data/m.jsonl:1",)
    assert done.proof is not None
    assert done.proof.clean
    folder.run()
    rules = lake.table("_drops").to_table().select(["rule", "_source"]).to_pylist()
    assert [row["_source"]["uri"] for row in rules if row["rule"] == "forgotten"] == ["data/m.jsonl"]
    assert "forgotten" in why(lake, gone)[0].render()


def test_a_forgotten_content_stays_away_in_another_format(folder: Folder) -> None:
    lake = folder.run()
    [id_] = content_ids(pa.array([TEXTS[6]]), None).to_pylist()
    folder.pipeline().forget([id_], purge=True)
    (folder.path / "data" / "b.jsonl").unlink()
    folder.write("x.txt", TEXTS[6])
    folder.write("x.csv", f"text,label\n{TEXTS[6]},1\n{TEXTS[12]},1\n")
    folder.run()
    assert places(lake) == {3: "m.jsonl", 9: "m.jsonl", 12: "x.csv"}
