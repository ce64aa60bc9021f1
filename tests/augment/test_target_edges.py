"""Masks, boxes and keypoints where it went wrong once: at the edges, behind the camera, in columns."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from augment import Policy, Targets
from augment.engine import cpu
from augment.engine.compile import compile_programs
from augment.engine.programs import Programs
from augment.ops import Applied, Shape


def moved(program: list[Applied], size: tuple[int, int] = (24, 32), **targets: Any) -> Targets:
    found: Targets = cpu.execute(np.zeros((1, *size, 1), np.uint8), [program], targets=Targets(**targets))[1]
    return found


# --- targets --------------------------------------------------------------------------------------------


def test_masks_that_stay_are_copies() -> None:
    for kind in (np.bool_, np.uint8, np.float64):
        mask = np.ones((24, 32), kind)
        found = moved([], masks=[mask]).masks
        assert found is not None
        assert not np.shares_memory(found[0], mask)


@pytest.mark.parametrize(
    "kind", [">i2", ">f4", ">f8", "float16", "complex64", "longdouble", "M8[s]", "int64", "bool", "uint64"]
)
def test_masks_of_any_type(kind: str) -> None:
    mask = (np.random.default_rng(1).integers(0, 2, (24, 32))).astype(kind)
    found = moved([Applied("FlipX", 0), Applied("Elastic", 0.0)], masks=[mask]).masks
    assert found is not None
    assert found[0] is not None
    assert found[0].dtype == mask.dtype
    assert np.array_equal(found[0], mask[:, ::-1])


def test_masks_in_an_array_come_back_in_one() -> None:
    masks = np.arange(2 * 24 * 32).reshape(2, 24, 32)
    policy = Policy(subpolicies=[[{"op": "FlipX"}]])
    images = np.zeros((2, 24, 32, 3), np.uint8)
    found = policy.apply(images, [1, 2], targets=Targets(masks=masks))[1].masks
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, masks[:, :, ::-1])


def test_mask_of_objects_is_refused() -> None:
    with pytest.raises(TypeError, match="image 0 holds objects"):
        moved([Applied("FlipX", 0)], masks=[np.zeros((24, 32), object)])


@pytest.mark.parametrize("labels", [["a"], ["a", "b", "c"]])
def test_labels_go_with_boxes(labels: list[str]) -> None:
    with pytest.raises(ValueError, match=r"image 0 has 2 boxes but [13] box_labels"):
        moved([Applied("FlipX", 0)], boxes=[[[0, 0, 5, 5], [1, 1, 4, 4]]], box_labels=[labels])


def test_targets_are_checked_where_they_are_made() -> None:
    with pytest.raises(ValueError, match="box_format 'voc': give pascal_voc, coco or yolo"):
        Targets(box_format="voc")  # type: ignore[arg-type]  # wrong on purpose
    for share in (float("nan"), -0.1, 5):
        with pytest.raises(ValueError, match="least_visible"):
            Targets(least_visible=share)
    with pytest.raises(ValueError, match="box_labels go with boxes"):
        Targets(box_labels=[["a"]])


def test_which_keypoints_are_inside() -> None:
    points = [[0.0, 0.0], [2.999, 5.0], [3.0, 5.0], [31.999, 23.999], [32.0, 5.0], [34.999, 5.0], [35.0, 0.0]]
    points += [[9.0, -0.001], [9.0, 24.0]]
    found = moved([Applied("TranslateX", -3.0)], keypoints=[points])
    assert found.visible[0].tolist() == [False, False, True, True, True, True, False, False, False]


@pytest.mark.parametrize("box", [[-1, 0, 5, 5], [0, -1, 5, 5], [0, 0, 33, 5], [0, 0, 5, 25], [-2e-3, 0, 5, 5]])
def test_a_box_outside_is_refused_on_every_side(box: list[float]) -> None:
    with pytest.raises(ValueError, match="outside of 32 x 24"):
        moved([], boxes=[[box]])


BEHIND = [(105, 1, 2, 3), (139, 1, 2, 3), (223, 1, 2, 3), (542, 1, 2, 3)]  # some corner is beyond the horizon


@pytest.mark.parametrize("key", BEHIND)
def test_boxes_beyond_the_horizon(key: tuple[int, int, int, int]) -> None:
    program = [Applied("Perspective", 0.6, key=key)]
    values = compile_programs(Programs.of([program]), Shape(100, 100, 1, 255.0)).values[0, 0, :9].reshape(3, 3)
    corners = np.array([[0, 0, 1], [100, 0, 1], [100, 100, 1], [0, 100, 1]]) @ np.linalg.inv(values).T
    assert (corners[:, 2] <= 0).any()  # else the test says nothing
    draw = np.random.default_rng(key[0])
    sides = np.sort(draw.uniform(0, 100, (60, 2, 2)), axis=1).reshape(60, 4)
    sides = np.concatenate([[[0, 0, 100, 100]], sides[(sides[:, 2:] - sides[:, :2]).min(axis=1) > 3]])
    found = moved(program, (100, 100), boxes=[sides], least_visible=0.0)
    boxes = dict(zip(found.kept[0].tolist(), np.asarray(found.boxes[0]), strict=True))  # type: ignore[index]  # given
    # Where each point of the output comes from says what is to be seen of a box.
    y, x = (np.mgrid[:400, :400] + 0.5) / 4
    u, v, q = np.einsum("ij,jyx->iyx", values, np.stack([x, y, np.ones_like(x)]))
    for k, (x0, y0, x1, y1) in enumerate(sides):
        seen = (u / q >= x0) & (u / q <= x1) & (v / q >= y0) & (v / q <= y1)
        if not seen.any():
            continue
        box = boxes[k]
        assert box[0] <= x[seen].min() + 0.3
        assert box[1] <= y[seen].min() + 0.3
        assert box[2] >= x[seen].max() - 0.3
        assert box[3] >= y[seen].max() - 0.3
    assert np.allclose(boxes[0], [0, 0, 100, 100], atol=1e-6)
    # The whole image is seen by more than a tenth of it: it is not dropped for what is beyond the horizon.
    assert moved(program, (100, 100), boxes=[[[0, 0, 100, 100]]]).kept[0].tolist() == [0]


@pytest.mark.parametrize("key", BEHIND)
def test_keypoints_beyond_the_horizon_are_nowhere(key: tuple[int, int, int, int]) -> None:
    program = [Applied("Perspective", 0.6, key=key)]
    values = compile_programs(Programs.of([program]), Shape(100, 100, 1, 255.0)).values[0, 0, :9].reshape(3, 3)
    points = np.array([[x, y] for x in (0.0, 50.0, 100.0) for y in (0.0, 50.0, 100.0)])
    behind = (np.concatenate([points, np.ones((9, 1))], axis=1) @ np.linalg.inv(values).T)[:, 2] <= 0
    found = moved(program, (100, 100), keypoints=[points])
    assert np.isnan(np.asarray(found.keypoints[0])).all(axis=1).tolist() == behind.tolist()  # type: ignore[index]  # given
    assert not found.visible[0][behind].any()


def test_a_composed_matrix_keeps_its_sign() -> None:
    """What is in front of the camera stays there, wherever the top left corner comes from."""
    first = Applied("Perspective", 0.6, key=(542, 1, 2, 3))
    for degrees in range(0, 360, 7):
        program = [first, Applied("Zoom", 0.2), Applied("Rotate", float(degrees))]
        values = compile_programs(Programs.of([program]), Shape(100, 100, 1, 255.0)).values[0, 0, :9]
        centre = values.reshape(3, 3) @ [50, 50, 1]
        assert np.isfinite(values).all()
        assert centre[2] > 0


# --- columns --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "boxes",
    [
        "[" * 100_000, "[[1" + "0" * 5000 + ", 1, 2, 3]]", "[[1" + "0" * 400 + ", 1, 2, 3]]", 5, b"abcd",
        {"bbox": [0, 0, 1, 1]}, "[null]",
    ],
)  # fmt: skip
def test_any_content_of_a_column_is_bad_at_most(boxes: Any) -> None:
    from augment.annotations import BadAnnotationError, parse

    with pytest.raises(BadAnnotationError) as caught:
        parse((8, 8, 3), "pascal_voc", boxes=boxes)
    assert caught.value.rule == "bad-boxes"


@pytest.mark.parametrize("text", [True, False])
def test_keypoints_that_have_left_can_be_read_again(*, text: bool) -> None:
    from augment.annotations import parse, targets, write

    given: Any = [[1.0, 2.0, "a"], None, [7.0, 3.0, "b"]]
    row = parse((8, 8, 3), "pascal_voc", keypoints=json.dumps(given) if text else given)
    _, found = cpu.execute(
        [np.zeros((8, 8, 3), np.uint8)],
        [[Applied("TranslateX", 3.0)]],
        targets=targets([row], "pascal_voc", 0.1),
    )
    _, points = write(row, found, 0)
    expected = [[4.0, 2.0, "a"], None, None]
    assert (json.loads(points) if text else points) == expected
    assert parse((8, 8, 3), "pascal_voc", keypoints=points).point_items == expected
