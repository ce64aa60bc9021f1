"""``gristmill preview``: the rows and the policy that a run would use."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from small import write_pictures, write_texts

from augment.presets import preset
from augment.preview.sheet import layout
from lake.images import decode, encode
from lake.lake import Lake
from pipeline.cli import cli
from pipeline.config import load
from pipeline.preview import Used, _BadRowError, _previewed, look

CONFIG = """\
name: small
lake: ./lake
allowed_rejects: 0.2
source: {lake.Files: {paths: pictures}}
steps:
  - dedup.PHash
  - augment.Apply: {policy: trivial_augment_wide, copies: 2, seed: 5}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of a few pictures, made by a run."""
    folder = tmp_path_factory.mktemp("preview")
    write_pictures(folder / "pictures", per_class=4)
    (folder / "gristmill.yaml").write_text(CONFIG)
    done = CliRunner().invoke(cli, ["run", str(folder / "gristmill.yaml"), "--quiet", "--workers", "1"])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def home(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    monkeypatch.setenv("NO_COLOR", "1")
    return made


def gristmill(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["preview", *arguments])


def told(*arguments: str) -> dict[str, Any]:
    done = gristmill(*arguments, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    return Lake(str(folder / "lake")).table(table).to_table().to_pylist()


def test_the_samples_are_the_copies_that_the_run_made(home: Path) -> None:
    looked = look(load("gristmill.yaml"), epochs=2, count=3)
    train = rows(home, "train")
    for row in looked.rows:
        for epoch, cell in enumerate(row.preview.samples.cells, start=1):
            (copy,) = (each for each in train if each["_id"] == row.id and each["_copy"] == epoch)
            assert np.array_equal(cell.image, decode(copy["image"]))
            assert cell.words == copy["_augmented"]
    assert looked.used.seed == looked.seed == 5


def test_a_row_of_each_class_is_shown_and_the_page_written(home: Path) -> None:
    done = gristmill("--count", "3", "--epochs", "2", "--op", "Rotate")
    assert done.exit_code == 0, done.output
    assert done.stderr == "wrote preview.html\n"
    for word in ("step 2 augment.Apply", "a preset", "seed 5", "3 rows of clean", "epoch 2", "24 x 24 pixels"):
        assert word in done.stdout
    assert all(name in done.stdout for name in ("upright", "lying", "slanted"))
    page = Path("preview.html").read_text(encoding="utf-8")
    assert page.count("<img") == 3 * (1 + 2 + 9)
    assert len(re.findall("<details", page)) == 3
    assert page.count("<details open") == 1
    assert not re.search(r"<script|https?:|url\(|@import| style=", page)
    assert "prefers-color-scheme: dark" in page
    gristmill("--count", "3", "--epochs", "2", "--op", "Rotate")
    assert page == Path("preview.html").read_text(encoding="utf-8")


def test_the_choice_depends_on_nothing_but_the_ids(home: Path) -> None:
    first = [row["_id"] for row in told("--count", "2", "--epochs", "1", "--op", "Invert")["rows"]]
    more = [
        row["_id"] for row in told("--count", "5", "--epochs", "1", "--op", "Invert", "--seed", "9")["rows"]
    ]
    assert more[:2] == first
    assert len(set(more)) == 5
    labels = {row["_id"]: row["label"] for row in rows(home, "clean")}
    assert len({labels[each] for each in more[:3]}) == 3


@pytest.mark.parametrize("how", ["id", "prefix", "place"])
def test_rows_by_name(home: Path, how: str) -> None:
    row = rows(home, "clean")[3]
    source = row["_source"]
    name = {"id": row["_id"], "prefix": row["_id"][:10], "place": f"{source['uri']}:{source['row']}"}[how]
    found = told("--id", name, "--epochs", "3", "--seed", "8", "--op", "Rotate", "--output", "one.html")
    (shown,) = found["rows"]
    assert shown["_id"] == row["_id"]
    policy = preset("trivial_augment_wide")
    words = [policy.describe(policy.draw([row["_id"]], 8, epoch)[0]) for epoch in (1, 2, 3)]
    assert [each["words"] for each in shown["samples"]] == words
    assert found["seed"] == 8
    assert found["policy"]["digest"] == policy.digest
    assert found["written"] == ["one.html"]
    assert shown["levels"]["Rotate"][0] == "Rotate -135.0°"


def test_two_rows_in_the_order_in_which_they_are_named(home: Path) -> None:
    ids = [row["_id"] for row in rows(home, "clean")[:3]][::-1]
    found = told(*[part for each in ids for part in ("--id", each)], "--epochs", "1", "--op", "Invert")
    assert [row["_id"] for row in found["rows"]] == ids


def test_output_is_one_picture_or_a_folder(home: Path) -> None:
    arguments = ("--count", "2", "--epochs", "1", "--op", "Rotate")
    (one,) = told(*arguments, "--output", "sheet.png")["written"]
    whole = np.asarray(Image.open(one))
    looked = look(load("gristmill.yaml"), count=2, epochs=1, ops=["Rotate"])
    x, y, cell = layout(looked.rows[0].preview).pictures[1]
    assert np.array_equal(whole[y : y + cell.shown.shape[0], x : x + cell.shown.shape[1]], cell.shown)
    written = told(*arguments, "--output", "folder")["written"]
    assert written[0] == "folder/preview.html"
    assert [Path(each).stem for each in written[1:]] == [row.id[:12] for row in looked.rows]
    assert Path(written[1]).read_bytes() == looked.rows[0].preview.png()


def test_a_name_that_there_is_not(home: Path) -> None:
    row = rows(home, "clean")[0]
    wrong = row["_id"][:12] + ("0" if row["_id"][12] != "0" else "1")
    done = gristmill("--id", wrong)
    assert done.exit_code == 1
    assert f"did you mean {row['_id']}?" in done.stderr
    done = gristmill("--id", "pictures/uprigth/000.pgn:1")
    assert done.exit_code == 1
    assert "did you mean pictures/" in done.stderr
    done = gristmill("--id", "ffffffff" if not row["_id"].startswith("ffff") else "00000000", "--json")
    assert (done.exit_code, json.loads(done.stdout)["error"]["kind"]) == (1, "MissingTableError")


def test_a_row_that_was_dropped_says_why(home: Path) -> None:
    done = gristmill("--id", "pictures/lying/torn.png:1")
    assert done.exit_code == 1
    assert "corrupt-image" in done.stderr


def test_an_unknown_op(home: Path) -> None:
    done = gristmill("--op", "Rotat")
    assert done.exit_code == 2
    assert "did you mean 'Rotate'?" in done.stderr


def test_a_configuration_that_augments_nothing(home: Path) -> None:
    Path("plain.yaml").write_text(
        CONFIG.replace("  - augment.Apply: {policy: trivial_augment_wide, copies: 2, seed: 5}\n", "")
    )
    done = gristmill("plain.yaml")
    assert done.exit_code == 2
    assert "augment.Apply" in done.stderr


def test_an_output_that_cannot_be_written(home: Path) -> None:
    done = gristmill("--count", "1", "--epochs", "1", "--op", "Invert", "--output", "nowhere/page.html")
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures, and no lake."""
    write_pictures(tmp_path / "pictures", per_class=3)
    (tmp_path / "gristmill.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_lake_the_sources_are_read(fresh: Path) -> None:
    found = told("--count", "3", "--epochs", "1", "--op", "Invert")
    assert found["rows_from"] == "the sources (nothing was ingested yet)"
    assert {row["label"] for row in found["rows"]} == {"upright", "lying", "slanted"}
    assert len(told("--count", "100", "--epochs", "0", "--op", "Invert")["rows"]) == 9
    assert not Path("lake").exists()
    done = gristmill("--id", "abcdef12")
    assert done.exit_code == 1
    assert "nothing was ingested yet" in done.stderr


def test_an_image_that_the_lake_has_but_nobody_can_read(fresh: Path) -> None:
    Path("gristmill.yaml").write_text(
        CONFIG.replace("{paths: pictures}", "{paths: pictures, verify_images: false}")
    )
    Path("gristmill.yaml").write_text(Path("gristmill.yaml").read_text().replace("  - dedup.PHash\n", ""))
    assert CliRunner().invoke(cli, ["run", "--quiet", "--workers", "1"]).exit_code in {0, 3}
    done = gristmill("--id", "pictures/lying/torn.png:1", "--epochs", "1")
    assert done.exit_code == 1
    assert "corrupt-image" in done.stderr
    found = told("--count", "50", "--epochs", "0", "--op", "Invert")
    assert any("lying/torn.png" in each and "corrupt-image" in each for each in found["passed_over"])
    assert len(found["rows"]) == 9
    gristmill("--count", "50", "--epochs", "0", "--op", "Invert")
    assert "Passed over" in Path("preview.html").read_text()


def test_a_learned_policy_is_the_stored_one(fresh: Path) -> None:
    text = CONFIG.replace(
        "augment.Apply: {policy: trivial_augment_wide, copies: 2, seed: 5}",
        "augment.Learned: {copies: 1, folds: 2, levels: 2, min_per_class: 2}",
    )
    Path("gristmill.yaml").write_text(text)
    before = told("--count", "1", "--epochs", "1", "--op", "Invert")
    assert before["policy"]["origin"] == "the base policy: none was learned yet"
    assert before["policy"]["digest"] == preset("trivial_augment_wide").digest
    done = CliRunner().invoke(cli, ["run", "--quiet", "--workers", "1"])
    assert done.exit_code in {0, 3}, done.output
    stored = json.loads(rows(fresh, "_policies")[0]["policy"])
    looked = look(load("gristmill.yaml"), count=1, epochs=1)
    assert looked.used.policy.model_dump(mode="json") == stored
    assert "the last run" in looked.used.origin
    assert "other settings" not in looked.used.origin
    other = told("--count", "1", "--epochs", "1", "--op", "Invert", "--set", "steps.2.tolerance=0.5")
    assert "with other settings than now" in other["policy"]["origin"]
    copies = {row["_id"]: row for row in rows(fresh, "train") if row["_copy"] == 1}
    (shown,) = looked.rows
    assert np.array_equal(shown.preview.samples.cells[0].image, decode(copies[shown.id]["image"]))


def test_texts_are_shown_with_their_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lake
    from augment.text import ApplyText
    from pipeline import Pipeline
    from pipeline.preview.page import page, pictures

    write_texts(tmp_path / "texts", files=1, rows=8)
    monkeypatch.chdir(tmp_path)
    subs = [[{"op": "RandomSwap", "magnitude": 0.2}], [{"op": "TfIdfSubstitute", "magnitude": 0.3}]]
    pipeline = Pipeline(
        name="texts", lake="./lake", source=lake.Files(paths="texts/*.jsonl"), allowed_rejects=0.5,
        steps=[ApplyText(policy={"name": "mine", "subpolicies": subs}, copies=2, seed=4)],
    )  # fmt: skip
    unread = look(pipeline.config, count=2, epochs=2)
    pipeline.run()
    looked = look(pipeline.config, count=2, epochs=2)
    train = lake.Lake("./lake").table("train").to_table().to_pylist()
    for row, early in zip(looked.rows, unread.rows, strict=True):
        assert row.preview == early.preview
        for sample in row.preview.samples:
            (copy,) = (each for each in train if each["_id"] == row.id and each["_copy"] == sample.epoch)
            assert (sample.text, sample.words) == (copy["text"], copy["_augmented"])
    html = page(looked)
    assert "<ins>" in html
    assert "<del>" in html
    assert "[-" in looked.render()
    assert pictures(looked) == {}
    from lake.errors import ConfigError

    with pytest.raises(ConfigError, match="images only"):
        look(pipeline.config, ops=["RandomSwap"])


def test_boxes_masks_and_keypoints_of_the_step_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.full((20, 20, 3), 9, np.uint8)).save(tmp_path / "one.png")
    picture = base64.b64encode((tmp_path / "one.png").read_bytes()).decode()
    boxes = json.dumps([{"bbox": [10, 10, 18, 18], "label": "cat"}])
    row = {"picture": picture, "boxes": boxes, "points": "[[3, 4]]"}
    table = pa.table({name: [value] for name, value in row.items()})
    table = table.set_column(0, "picture", pa.array([base64.b64decode(picture)]))
    pq.write_table(table, tmp_path / "one.parquet")
    (tmp_path / "gristmill.yaml").write_text(
        "name: b\nlake: ./lake\nsource: {lake.Files: {paths: one.parquet, text: null, image: picture, "
        "columns: {boxes: string, points: string}}}\n"
        "steps: [{augment.Apply: {boxes: boxes, keypoints: points, policy: {subpolicies: [[{op: FlipX}]]}}}]\n"
    )
    monkeypatch.chdir(tmp_path)
    (shown,) = look(load("gristmill.yaml"), epochs=1).rows
    cell = shown.preview.samples.cells[0]
    assert np.asarray(cell.targets.boxes[0]).tolist() == [[2, 10, 10, 18]]
    assert cell.targets.box_labels == [["cat"]]
    assert np.asarray(cell.targets.keypoints[0]).tolist() == [[17, 4]]
    assert len(np.unique(cell.shown.reshape(-1, 3), axis=0)) > 3


def test_a_mask_that_does_not_fit_is_named() -> None:
    policy = preset("randaugment")
    used = Used("1 augment.Apply", policy, "a preset", 0, None, {"mask": "seg"})
    image, mask = np.zeros((8, 8, 1), np.uint8), np.eye(8, dtype=np.uint8)[..., None]
    row = {"_id": "0" * 32, "image": encode(image), "seg": encode(mask)}
    shown = _previewed(row, used, "image", 0, 1, None, [])
    assert np.array_equal(shown.original.targets.masks[0], mask)
    with pytest.raises(_BadRowError, match="bad-mask"):
        _previewed({**row, "seg": encode(mask[:4])}, used, "image", 0, 1, None, [])


def test_no_control_character_of_a_record_reaches_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"text": "one two \x1b[31m three", "label": "a\x1b]0;title\x07\nb"}
    Path("one.jsonl").write_text(json.dumps(row))
    swap = "{subpolicies: [[{op: RandomSwap, magnitude: 1.0}]]}"
    Path("gristmill.yaml").write_text(
        "name: one\nlake: ./lake\nsource: {lake.Files: {paths: one.jsonl, text: text, label: label}}\n"
        f"steps:\n  - augment.ApplyText: {{policy: {swap}}}\n"
    )
    said = look(load("gristmill.yaml"), epochs=1).render()
    assert all(line.isprintable() for line in said.split("\n"))
    assert said.split("\n")[3].startswith("a ]0;title  b  ")
