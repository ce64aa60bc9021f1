"""Masks, boxes and keypoints that move with the images of a loader."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from augment.late import pinned
from augment.policy import Policy
from augment.presets import preset
from augment.targets import Targets
from lake.errors import ConfigError, InputError, SchemaError
from lake.images import decode
from lake.lake import Lake
from pipeline.loader import Loader
from pipeline.loader.beside import Columns
from pipeline.loader.finish import Finish

TURNS = Policy(
    subpolicies=[
        [{"op": "Rotate", "magnitude": (0, 1)}],
        [{"op": "FlipX"}],
        [{"op": "Zoom", "magnitude": (0, 1)}],
    ]
)
COLUMNS = {"mask": "mask", "boxes": "objects", "keypoints": "joints", "box_format": "coco"}


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def scene(number: int, size: tuple[int, int] = (30, 44)) -> dict[str, object]:
    """A picture with one bright rectangle, the mask of it, its box, and its corner as a keypoint."""
    draw = np.random.default_rng(number)
    height, width = size
    x0, y0 = (int(draw.integers(4, side // 2)) for side in (width, height))
    x1, y1 = int(draw.integers(x0 + 5, width - 4)), int(draw.integers(y0 + 5, height - 4))
    mask = np.zeros((height, width), np.uint8)
    mask[y0:y1, x0:x1] = 200
    objects = [{"bbox": [x0, y0, x1 - x0, y1 - y0], "category_id": number}]
    return {
        "_id": hashlib.md5(str(number).encode()).hexdigest(),
        "image": png(np.repeat(mask[:, :, None], 3, axis=2)),
        "mask": png(mask),
        "objects": json.dumps(objects),
        "joints": json.dumps([[x0 + 0.5, y0 + 0.5], None]),
    }


def scenes(count: int) -> pa.Table:
    schema = pa.schema(
        [
            ("_id", pa.string()),
            ("image", pa.binary()),
            ("mask", pa.binary()),
            ("objects", pa.string()),
            ("joints", pa.string()),
        ]
    )
    return pa.Table.from_pylist([scene(i) for i in range(count)], schema=schema)


def by_id(loader: Loader) -> dict[str, dict[str, object]]:
    found = {}
    for batch in loader:
        for i, row in enumerate(batch["_id"]):
            found[row] = {name: values[i] for name, values in batch.items() if not name.startswith("_skipped")}
    return found


def test_they_go_the_way_of_the_policy(tmp_path, filled) -> None:
    lake, table = Lake(tmp_path / "lake"), scenes(20)
    filled(lake, [table])
    found = by_id(Loader(lake, batch_size=6, policy=TURNS, seed=5, **COLUMNS))
    assert len(found) == 20
    for row in table.to_pylist():
        [item], [point, _] = json.loads(row["objects"]), json.loads(row["joints"])
        images, moved = TURNS.apply(
            [decode(row["image"])],
            [row["_id"]],
            seed=5,
            targets=Targets([decode(row["mask"])], [[item["bbox"]]], [[point]], box_format="coco"),
        )
        mine = found[row["_id"]]
        assert np.array_equal(mine["image"], images[0])
        assert np.array_equal(mine["mask"], moved.masks[0][:, :, 0])
        assert np.allclose(mine["objects"], moved.boxes[0])
        assert [each["category_id"] for each in mine["_box_items"]] == [item["category_id"]] * len(
            moved.kept[0]
        )
        assert np.isnan(mine["joints"][1]).all()
        assert np.array_equal(
            mine["joints"][0], np.where(moved.visible[0][0], moved.keypoints[0][0], np.nan), equal_nan=True
        )


@pytest.mark.parametrize("resize", ["pillow", "opencv"])
@pytest.mark.parametrize("at", ["stored", "size"])
def test_box_and_mask_stay_around_the_same_object(tmp_path, filled, resize, at) -> None:
    lake = Lake(tmp_path / "lake")
    filled(lake, [scenes(24)])
    loader = Loader(
        lake,
        batch_size=5,
        policy="trivial_augment_wide",
        seed=2,
        size=(40, 36),
        resize=resize,
        augment_at=at,
        **COLUMNS,
    )
    compared = 0
    for batch in loader:
        assert batch["mask"].shape == batch["image"].shape[:3]
        for mask, boxes in zip(batch["mask"], batch["objects"], strict=True):
            rows, columns = np.nonzero(mask)
            if len(boxes) == 0:
                continue
            [(x, y, wide, high)] = boxes
            assert len(rows)
            # The box is about the turned corners: it holds the object, and a flat one is no larger.
            assert columns.min() >= x - 1.5
            assert rows.min() >= y - 1.5
            assert columns.max() + 1 <= x + wide + 1.5
            assert rows.max() + 1 <= y + high + 1.5
            compared += 1
    assert compared >= 15


def test_without_a_policy_they_are_cut_out_with_the_image(tmp_path, filled) -> None:
    lake, table = Lake(tmp_path / "lake"), scenes(9)
    filled(lake, [table])
    found = by_id(Loader(lake, size=(16, 16), **COLUMNS))
    for row in table.to_pylist():
        mine = found[row["_id"]]
        wanted = ImageOps.fit(Image.open(io.BytesIO(row["mask"])), (16, 16), Image.Resampling.NEAREST)
        assert np.array_equal(mine["mask"], np.asarray(wanted))
        [item], [point, _] = json.loads(row["objects"]), json.loads(row["joints"])
        scale, left = 16 / 30, (44 - 30) / 2
        x, y, wide, high = item["bbox"]
        x0, x1 = (np.clip((each - left) * scale, 0, 16) for each in (x, x + wide))
        if len(mine["objects"]):
            assert np.allclose(mine["objects"], [[x0, y * scale, x1 - x0, high * scale]])
        else:
            assert x1 - x0 < 0.1 * wide * scale
        at = (point[0] - left) * scale
        assert (
            np.isnan(mine["joints"][0]).all()
            if at < 0
            else np.allclose(mine["joints"][0], [at, point[1] * scale])
        )


@given(
    source=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    resize=st.sampled_from(["pillow", "opencv"]),
)
def test_what_is_cut_out_is_in_the_image(source, size, resize) -> None:
    finish = Finish(size=size, resize=resize)
    crop = finish.crop(*source)
    if crop is None:
        assert source == size
        return
    assert 0 <= crop.left <= crop.left + crop.width <= source[1] + 1e-9
    assert 0 <= crop.top <= crop.top + crop.height <= source[0] + 1e-9
    mask = np.arange(source[0] * source[1], dtype=np.int32).reshape(*source, 1)
    row = Columns(mask="m").read((*source, 3), {})
    assert Columns().fitted(row, crop, size).boxes.shape == (0, 4)
    moved = Columns().fitted(type(row)(mask, row.boxes, row.items, row.points), crop, size).mask
    for i in range(size[0]):
        y = min(int(crop.top + (i + 0.5) * crop.height / size[0]), source[0] - 1)
        assert (moved[i, :, 0] // source[1] == y).all()


def test_the_same_for_any_batch_thread_and_order(tmp_path, filled) -> None:
    lake = Lake(tmp_path / "lake")
    filled(lake, [scenes(40)])

    def told(**how):
        found = by_id(Loader(lake, policy="autoaugment", seed=9, size=32, **COLUMNS, **how))
        names = ("image", "mask", "objects", "joints")
        return {row: [np.asarray(values[name]).tobytes() for name in names] for row, values in found.items()}

    first = told(batch_size=40, threads=1, shuffle="none")
    assert told(batch_size=1, threads=3) == first
    assert told(batch_size=7, threads=2, shuffle="full", cache=str(tmp_path / "cache")) == first


def test_rows_that_name_their_policy(tmp_path, filled) -> None:
    lake, table = Lake(tmp_path / "lake"), scenes(12)
    policy = preset("trivial_augment_wide")
    half = table.slice(6).append_column(pa.field("_policy", pa.string()), pa.nulls(6, pa.string()))
    filled(lake, [pa.concat_tables([pinned(table.slice(0, 6), policy, 3), half])])
    found = by_id(Loader(lake, batch_size=5, **COLUMNS))
    plain = by_id(Loader(lake, batch_size=5, policy=None, **COLUMNS))
    told = by_id(Loader(lake, batch_size=5, policy=policy, seed=3, **COLUMNS))
    for number, row in enumerate(table["_id"].to_pylist()):
        wanted = told if number < 6 else plain
        assert np.array_equal(found[row]["mask"], wanted[row]["mask"])
        assert np.array_equal(found[row]["objects"], wanted[row]["objects"])


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("objects", '[{"bbox": [40, 2, 30, 5]}]', "bad-boxes"),
        ("joints", "[[1]]", "bad-keypoints"),
        ("mask", png(np.zeros((3, 3), np.uint8)), "bad-mask"),
        ("mask", b"no image", "bad-mask"),
    ],
    ids=["boxes", "keypoints", "mask of another size", "no mask"],
)
def test_a_row_whose_annotation_is_wrong(tmp_path, filled, column, value, rule) -> None:
    lake, table = Lake(tmp_path / "lake"), scenes(6)
    rows = table.to_pylist()
    rows[2][column] = value
    filled(lake, [pa.Table.from_pylist(rows, schema=table.schema)])
    with pytest.raises(InputError, match=f"(?s){rows[2]['_id']}.*{rule}") as caught:
        list(Loader(lake, **COLUMNS))
    assert "on_error" in str(caught.value.hint)
    loader = Loader(lake, on_error="skip", **COLUMNS)
    assert set(by_id(loader)) == {row["_id"] for row in rows} - {rows[2]["_id"]}
    assert loader.skipped.rules == {rule: 1}


def test_rows_without_any(tmp_path, filled) -> None:
    lake, table = Lake(tmp_path / "lake"), scenes(4)
    rows = table.to_pylist()
    rows[1] |= {"mask": None, "objects": None, "joints": None}
    rows[2] |= {"image": None}
    filled(lake, [pa.Table.from_pylist(rows, schema=table.schema)])
    found = by_id(Loader(lake, policy=TURNS, **COLUMNS))
    for number in (1, 2):
        mine = found[rows[number]["_id"]]
        assert mine["mask"] is None
        assert mine["objects"].shape == (0, 4)
        assert mine["joints"].shape == (0, 2)
        assert mine["_box_items"] == []
    assert found[rows[2]["_id"]]["image"] is None


@pytest.mark.parametrize("form", ["pascal_voc", "coco", "yolo"])
def test_boxes_leave_in_the_format_in_which_they_came(tmp_path, filled, form) -> None:
    lake, table = Lake(tmp_path / "lake"), scenes(3)
    rows = table.to_pylist()
    boxes = {"pascal_voc": [11, 3, 33, 27], "coco": [11, 3, 22, 24], "yolo": [0.5, 0.5, 0.5, 0.8]}
    for row in rows:
        row["objects"] = json.dumps([boxes[form]])
    filled(lake, [pa.Table.from_pylist(rows, schema=table.schema)])
    wanted = {"pascal_voc": [8, 6, 52, 54], "coco": [8, 6, 44, 48], "yolo": [0.5, 0.5, 44 / 60, 0.8]}
    for mine in by_id(Loader(lake, size=60, boxes="objects", box_format=form)).values():
        assert np.allclose(mine["objects"], [wanted[form]])


def test_what_cannot_be_asked_for(tmp_path, filled) -> None:
    lake = Lake(tmp_path / "lake")
    filled(lake, [scenes(4)])
    with pytest.raises(SchemaError, match="'nowhere'"):
        Loader(lake, mask="nowhere")
    with pytest.raises(SchemaError, match="'image'"):
        Loader(lake, columns=["_id", "mask"], mask="mask")
    with pytest.raises(ConfigError, match="columns of their own"):
        Loader(lake, mask="objects", boxes="objects")
    with pytest.raises(ConfigError, match="columns of their own"):
        Loader(lake, mask="image")
    with pytest.raises(ConfigError, match="box_format"):
        Loader(lake, boxes="objects", box_format="voc")
    with pytest.raises(ConfigError, match="least_visible"):
        Loader(lake, boxes="objects", least_visible=2.0)
    mixing = Policy(subpolicies=[[{"op": "MixUp", "magnitude": 0.5}]])
    with pytest.raises(ConfigError, match="no mixture of masks"):
        list(Loader(lake, policy=mixing, size=16, augment_at="size", batch_size=2, mask="mask"))
