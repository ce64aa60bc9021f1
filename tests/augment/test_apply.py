from __future__ import annotations

import json
import os
import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from augment import Apply, presets
from augment.policy import Choice, Policy
from lake import ids, images, schema
from lake.errors import ConfigError

SHAPES = [(20, 20, 3), (20, 20, 1), (13, 9, 3), (20, 20, 3), (1, 1, 1)]


def records(n: int = 10, *, broken: tuple[int, ...] = (), without: tuple[int, ...] = ()) -> pa.Table:
    rng = np.random.default_rng(0)
    blobs: list[bytes | None] = []
    for i in range(n):
        dtype: type[np.uint8 | np.uint16] = np.uint16 if i % 5 == 3 else np.uint8
        array: images.Pixels = rng.integers(0, np.iinfo(dtype).max, SHAPES[i % 5], dtype=dtype, endpoint=True)  # type: ignore[assignment]  # either dtype
        blobs.append(None if i in without else b"no image" if i in broken else images.encode(array))
    texts = pa.array([f"text {i}" for i in range(n)], pa.string())
    column = pa.array(blobs, pa.binary())
    return pa.table(
        {
            "_id": ids.content_ids(texts, column),
            "_source": pa.array([{"uri": "a.parquet", "row": i + 1} for i in range(n)], schema.SOURCE),
            "text": texts,
            "image": column,
            "label": pa.array([f"{i % 2}" for i in range(n)], pa.string()),
            "meta": pa.array([json.dumps({"i": i}) for i in range(n)], pa.string()),
            "price": pa.array(range(n), pa.int64()),
        }
    )


def test_originals_stand_before_their_copies() -> None:
    table = records()
    outcome = Apply(copies=2, seed=3).apply(table)
    assert outcome.drops.num_rows == 0
    assert outcome.drops.schema == schema.DROPS
    rows = outcome.table
    assert rows.column_names == [*table.column_names, "_copy", "_augmented"]
    assert rows.column("_copy").to_pylist() == [0, 1, 2] * 10
    assert rows.schema.field("_copy").type == pa.int32()
    originals = rows.take(list(range(0, 30, 3)))
    assert originals.drop_columns(["_copy", "_augmented"]) == table
    assert originals.column("_augmented").null_count == 10
    for n in (1, 2):
        copies = rows.take(list(range(n, 30, 3)))
        for name in ("_id", "_source", "text", "label", "meta", "price"):
            assert copies.column(name).to_pylist() == table.column(name).to_pylist()


def test_copy_n_is_epoch_n_of_the_policy() -> None:
    table = records()
    rows = Apply(policy="randaugment", copies=3, seed=8).apply(table).table.to_pylist()
    policy = presets.randaugment()
    arrays = [images.decode(blob) for blob in table.column("image").to_pylist()]
    for epoch in (1, 2, 3):
        expected = policy.apply(arrays, table.column("_id"), seed=8, epoch=epoch)
        programs = policy.draw(table.column("_id"), 8, epoch)
        for i, array in enumerate(expected):
            row = rows[4 * i + epoch]
            decoded = images.decode(row["image"])
            assert decoded.dtype == arrays[i].dtype
            assert np.array_equal(decoded, array)
            assert row["_augmented"] == policy.describe(programs[i])


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_the_same_bytes_for_any_batches_and_order(data: st.DataObject) -> None:
    table = records(11, broken=(4,), without=(6,))
    step = Apply(copies=2, seed=1)
    whole = step(table).sort_by([("_id", "ascending"), ("_copy", "ascending")])
    size = data.draw(st.sampled_from([1, 2, 7]))
    shuffled = table.take(data.draw(st.permutations(range(11))))
    parts = pa.concat_tables([step(shuffled.slice(i, size)) for i in range(0, 11, size)])
    assert parts.sort_by([("_id", "ascending"), ("_copy", "ascending")]) == whole


@pytest.mark.parametrize("threads", ["1", "3", "0", "many"])
def test_threads_change_nothing(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Apply(copies=2)(records())
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert Apply(copies=2)(records()) == expected


def test_small_groups_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Apply(copies=2)(records(40))
    monkeypatch.setattr("augment.apply._PIXEL_BYTES", 1)
    assert Apply(copies=2)(records(40)) == expected


def test_unreadable_images_are_dropped_with_their_rule() -> None:
    table = records(6, broken=(1, 4), without=(2,))
    outcome = Apply(copies=1).apply(table)
    assert outcome.drops.column("_id").to_pylist() == table.column("_id").take([1, 4]).to_pylist()
    assert outcome.drops.column("rule").to_pylist() == ["unsupported-image"] * 2
    assert all(outcome.drops.column("detail").to_pylist())
    assert outcome.drops.column("label").to_pylist() == ["1", "0"]
    kept = set(outcome.table.column("_id").to_pylist())
    assert len(kept) + outcome.drops.num_rows == table.num_rows
    truncated = table.slice(0, 1).set_column(3, "image", pa.array([table.column("image")[0].as_py()[:60]]))
    assert Apply().apply(truncated).drops.column("rule").to_pylist() == ["corrupt-image"]


def test_rows_without_image_pass_alone() -> None:
    table = records(5, without=(0, 2))
    rows = Apply(copies=2)(table)
    assert rows.column("_copy").to_pylist() == [0, 0, 1, 2, 0, 0, 1, 2, 0, 1, 2]
    text_only = table.drop_columns(["image"])
    rows = Apply(copies=2)(text_only)
    assert rows.drop_columns(["_copy", "_augmented"]) == text_only
    assert set(rows.column("_copy").to_pylist()) == {0}


def test_no_copies_decodes_nothing() -> None:
    table = records(4, broken=(1,))
    outcome = Apply(copies=0).apply(table)
    assert outcome.drops.num_rows == 0
    assert outcome.table.drop_columns(["_copy", "_augmented"]) == table


@pytest.mark.parametrize("rows", [0, 3])
def test_chunked_and_empty_tables(rows: int) -> None:
    table = pa.concat_tables([records(rows), records(rows).slice(0, 0), records(rows)])
    made = Apply(copies=1)(table)
    assert made.num_rows == 4 * rows
    assert made.schema == Apply(copies=1)(records(4)).schema


def test_nothing_but_unreadable_rows() -> None:
    outcome = Apply().apply(records(2, broken=(0, 1)))
    assert outcome.table.num_rows == 0
    assert outcome.drops.num_rows == 2


def test_large_binary_stays() -> None:
    table = records(3)
    wide = table.set_column(3, "image", table.column("image").cast(pa.large_binary()))
    assert Apply()(wide).schema.field("image").type == pa.large_binary()
    assert Apply()(wide).column("image").to_pylist() == Apply()(table).column("image").to_pylist()


def test_copies_of_copies_are_refused() -> None:
    once = Apply()(records(2))
    with pytest.raises(ConfigError, match="made copies already"):
        Apply()(once)


def test_the_step_is_a_value() -> None:
    spin = Policy(subpolicies=[[Choice(op="Rotate", magnitude=(0, 0.1))]])
    for step in (Apply(), Apply(policy="autoaugment_svhn", copies=3, seed=9), Apply(policy=spin)):
        assert Apply.model_validate(step.model_dump(mode="json")) == step
    assert Apply(policy=spin.model_dump(mode="json")) == Apply(policy=spin)
    assert Apply(policy=spin).resolved == spin
    assert Apply.augments


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Apply(policy="randaugmnt"), "did you mean 'randaugment'"),
        (lambda: Apply(copies=-1), "greater than or equal to 0"),
        (lambda: Apply(seed=-1), "greater than or equal to 0"),
        (lambda: Apply(seed=2**64), "less than"),
        (lambda: Apply.model_validate({"copys": 2}), "Extra inputs"),
        (lambda: Apply(policy={"subpolicies": []}), "at least 1"),
    ],
)
def test_bad_settings(make: Callable[[], Apply], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make()


def test_thread_count_respects_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from augment.engine import cpu

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert cpu.threads() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cpu.threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert cpu.threads() == len(os.sched_getaffinity(0))


# --- what moves along -----------------------------------------------------------------------------------


def annotated() -> pa.Table:
    table = records(6)
    sizes = [SHAPES[i % 5] for i in range(6)]
    masks = [images.encode((np.arange(h * w) % 7).astype(np.uint8).reshape(h, w, 1)) for h, w, _ in sizes]
    boxes = [
        json.dumps([{"bbox": [0, 0, w / 2, h / 2], "category": 3}, [w / 2, 0, w, h, "cat"]])
        for h, w, _ in sizes
    ]
    points: list[list[list[float]] | None] = [[[w / 4, h / 4], [w * 0.9, h * 0.9]] for h, w, _ in sizes]
    points[2] = None
    table = table.append_column("mask", pa.array(masks, pa.binary()))
    table = table.append_column("boxes", pa.array(boxes, pa.string()))
    return table.append_column("points", pa.array(points, pa.list_(pa.list_(pa.float64()))))


def flips(**fields: object) -> Apply:
    return Apply(
        policy=Policy(subpolicies=[[Choice(op="FlipX")]]),
        mask="mask",
        boxes="boxes",
        keypoints="points",
        **fields,
    )  # type: ignore[arg-type]  # of the test


def test_masks_boxes_and_keypoints_move_with_the_copies() -> None:
    table = annotated()
    outcome = flips().apply(table)
    rows = outcome.table
    assert rows.schema.names == [*table.schema.names, "_copy", "_augmented"]
    assert rows.schema.field("points").type == table.schema.field("points").type
    originals, copies = rows.take(list(range(0, 12, 2))), rows.take(list(range(1, 12, 2)))
    assert originals.drop_columns(["_copy", "_augmented"]) == table
    for i in range(6):
        h, w, _ = SHAPES[i % 5]
        before, after = (images.decode(t.column("mask")[i].as_py()) for t in (originals, copies))
        assert np.array_equal(after, before[:, ::-1])
        assert json.loads(copies.column("boxes")[i].as_py()) == [
            {"bbox": [w / 2, 0, w, h / 2], "category": 3},
            [0, 0, w / 2, h, "cat"],
        ]
        points = copies.column("points")[i].as_py()
        assert points == ([] if i == 2 else [[w - w / 4, h / 4], [pytest.approx(w * 0.1), h * 0.9]])


@pytest.mark.parametrize(
    ("name", "value", "rule", "reason"),
    [
        ("boxes", "[[0, 0, 99, 3]]", "bad-boxes", "box 0 is .* outside of 20 x 20"),
        ("boxes", "[[0, 0, 9]]", "bad-boxes", "item 0 has not 4 numbers"),
        ("boxes", "[0, 0", "bad-boxes", "no JSON at character 5"),
        ("boxes", "{}", "bad-boxes", "dict instead of a list"),
        ("boxes", '[["a", 0, 1, 1]]', "bad-boxes", "something else than numbers"),
        ("points", [[1.0]], "bad-keypoints", "item 0 has not 2 numbers"),
        ("points", [[1.0, float("nan")]], "bad-keypoints", "finite"),
        ("mask", images.encode(np.zeros((3, 20, 1), np.uint8)), "bad-mask", "3 x 20, the image 20 x 20"),
        ("mask", b"none", "bad-mask", "not an image"),
    ],
)
def test_a_row_with_bad_annotations_is_dropped_and_says_why(
    name: str, value: object, rule: str, reason: str
) -> None:
    table = annotated()
    place = table.schema.get_field_index(name)
    values = table.column(name).to_pylist()
    values[3] = value
    table = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    outcome = flips().apply(table)
    assert outcome.table.num_rows == 10
    (drop,) = outcome.drops.to_pylist()
    assert drop["_id"] == table.column("_id")[3].as_py()
    assert drop["rule"] == rule
    assert re.search(reason, drop["detail"])


def test_a_missing_column_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'mask'"):
        flips().apply(records())


def test_a_policy_for_texts_is_sent_elsewhere() -> None:
    with pytest.raises(ValidationError, match=r"augment\.ApplyText"):
        Apply(policy=Policy(subpolicies=[[Choice(op="RandomSwap", magnitude=0.2)]]))
    with pytest.raises(ValidationError, match="images and ops for texts in one policy"):
        Policy(subpolicies=[[Choice(op="RandomSwap", magnitude=0.2)], [Choice(op="Invert")]])
