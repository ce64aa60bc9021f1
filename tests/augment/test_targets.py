"""Masks, boxes and keypoints move as the pixels do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment import Policy, Targets
from augment.engine import cpu
from augment.ops import OPS, Applied

MOVING = [name for name, op in OPS.items() if op.moves]
STILL = [name for name, op in OPS.items() if not op.moves and op.kind not in {"mix", "text"}]


def applied(name: str, level: float, sign: int, key: int) -> Applied:
    return Applied(name, float(OPS[name].range("wide").parameter(level, sign)), 0.3, 0.6, (key, 1, 2, 3))


def blob(height: int, width: int, x: float, y: float, radius: float) -> npt.NDArray[np.uint8]:
    """A soft disc, brightest at (x, y)."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(columns - x, rows - y)
    return (np.clip(1 - distance / radius, 0, 1) * 250).astype(np.uint8)[..., None]


def moved(
    program: list[Applied], image: npt.NDArray[np.uint8], **targets: object
) -> tuple[np.ndarray, Targets]:
    images, found = cpu.execute(image[None], [program], targets=Targets(**targets))  # type: ignore[arg-type]  # of the test
    return images[0], found


@settings(max_examples=120, deadline=None)
@given(
    names=st.lists(st.sampled_from(MOVING), min_size=1, max_size=3),
    level=st.floats(0, 0.5),
    sign=st.sampled_from([-1, 1]),
    key=st.integers(0, 999),
    x=st.floats(20, 70),
    y=st.floats(20, 50),
)
def test_keypoints_follow_the_pixels(  # noqa: PLR0917  (what is drawn)
    names: list[str], level: float, sign: int, key: int, x: float, y: float
) -> None:
    image = blob(72, 96, x, y, 9)
    program = [applied(name, level, sign, key) for name in names]
    made, found = moved(program, image, keypoints=[[[x, y]]])
    assert found.keypoints is not None
    (point,) = np.asarray(found.keypoints[0])
    inside = bool(found.visible[0][0])
    assert inside == (0 <= point[0] < 96 and 0 <= point[1] < 72)
    if inside and made.max() > 200:
        there = made[int(point[1]), int(point[0]), 0]
        assert there >= int(made.max()) - 60  # the disc falls off by 28 a pixel


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.sampled_from(MOVING), min_size=1, max_size=3),
    level=st.floats(0, 1),
    key=st.integers(0, 99),
)
def test_a_mask_moves_as_an_image_does(names: list[str], level: float, key: int) -> None:
    labels = np.random.default_rng(key).integers(0, 7, (30, 41)).astype(np.int32)
    program = [applied(name, level, 1, key) for name in names]
    for mask in (labels, labels > 3, labels.astype(np.float64), np.stack([labels, labels + 1], axis=2)):
        image = labels.astype(np.uint8)[..., None]
        made, found = moved(program, image, masks=[mask])
        assert found.masks is not None
        assert found.masks[0].dtype == mask.dtype
        expected = made[..., 0] if mask.dtype != np.bool_ else made[..., 0] > 3
        plane = found.masks[0] if mask.ndim == 2 else found.masks[0][..., 0]
        assert np.array_equal(plane, expected)


def test_a_mask_is_never_interpolated() -> None:
    policy = Policy(
        subpolicies=[[{"op": "Rotate", "magnitude": 0.2}, {"op": "Elastic", "magnitude": 1}]],
        resampling="bilinear",
    )
    masks = np.random.default_rng(0).choice([0, 9, 200], (5, 32, 32)).astype(np.uint8)
    _, found = policy.apply(np.zeros((5, 32, 32, 3), np.uint8), range(5), targets=Targets(masks=masks))
    assert set(np.unique(found.masks)) <= {0, 9, 200}
    assert not np.array_equal(found.masks, masks)


@pytest.mark.parametrize("name", STILL)
def test_other_ops_leave_targets_alone(name: str) -> None:
    mask = np.arange(400).reshape(20, 20)
    targets = {"masks": [mask], "boxes": [[[1.0, 2.0, 9.0, 11.0]]], "keypoints": [[[3.0, 4.0]]]}
    _, found = moved([applied(name, 0.8, 1, 3)], np.zeros((20, 20, 3), np.uint8), **targets)
    assert np.array_equal(found.masks[0], mask)  # type: ignore[index]  # given
    assert np.array_equal(found.boxes[0], targets["boxes"][0])  # type: ignore[index]  # given
    assert np.array_equal(found.keypoints[0], targets["keypoints"][0])  # type: ignore[index]  # given


@settings(max_examples=80, deadline=None)
@given(
    names=st.lists(st.sampled_from(MOVING), min_size=1, max_size=2),
    level=st.floats(0, 0.4),
    key=st.integers(0, 99),
    x=st.integers(5, 60),
    y=st.integers(5, 40),
)
def test_a_box_holds_what_it_held(names: list[str], level: float, key: int, x: int, y: int) -> None:
    image = np.zeros((64, 96, 1), np.uint8)
    image[y : y + 14, x : x + 22] = 255
    program = [applied(name, level, 1, key) for name in names]
    made, found = moved(
        program, image, boxes=[[[x, y, x + 22, y + 14]]], box_labels=[["cat"]], least_visible=0.0
    )
    rows, columns = np.nonzero(made[..., 0])
    assert found.boxes is not None
    if not len(rows):
        return
    assert found.kept[0].tolist() == [0]
    assert found.box_labels == [["cat"]]
    x0, y0, x1, y1 = np.asarray(found.boxes[0])[0]
    slack = 1.5 + 6 * ("Elastic" in names)  # an elastic field bends edges beyond the corners
    assert columns.min() >= x0 - slack
    assert columns.max() + 1 <= x1 + slack
    assert rows.min() >= y0 - slack
    assert rows.max() + 1 <= y1 + slack


def test_formats_say_the_same() -> None:
    image = np.zeros((50, 100, 1), np.uint8)
    program = [Applied("FlipX", 0), Applied("Zoom", 0.5)]
    corners = np.array([[10.0, 5.0, 40.0, 25.0], [60.0, 30.0, 70.0, 50.0]])
    _, voc = moved(program, image, boxes=[corners])
    coco = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    _, as_coco = moved(program, image, boxes=[coco], box_format="coco")
    yolo = np.array([[0.25, 0.3, 0.3, 0.4], [0.65, 0.8, 0.1, 0.4]])
    _, as_yolo = moved(program, image, boxes=[yolo], box_format="yolo")
    found = np.asarray(voc.boxes[0])  # type: ignore[index]  # given
    assert np.allclose(found, [[55, 15, 70, 25], [40, 27.5, 45, 37.5]])
    assert np.allclose(np.asarray(as_coco.boxes[0])[:, 2:], found[:, 2:] - found[:, :2])  # type: ignore[index]  # given
    back = np.asarray(as_yolo.boxes[0]) * [100, 50, 100, 50]  # type: ignore[index]  # given
    assert np.allclose(back[:, :2], (found[:, :2] + found[:, 2:]) / 2)


def test_boxes_that_leave_are_dropped_with_their_labels() -> None:
    program = [Applied("TranslateX", 30.0)]
    boxes = [[0.0, 0.0, 10.0, 10.0], [55.0, 0.0, 65.0, 10.0], [90.0, 0.0, 99.0, 9.0], [60.0, 0.0, 79.0, 9.0]]
    _, found = moved(
        program, np.zeros((40, 100, 1), np.uint8), boxes=[boxes], box_labels=[np.arange(4)], least_visible=0.5
    )
    assert found.kept[0].tolist() == [0, 1, 3]
    assert found.box_labels is not None
    assert found.box_labels[0].tolist() == [0, 1, 3]
    assert np.asarray(found.boxes[0])[2].tolist() == [90, 0, 100, 9]  # type: ignore[index]  # given


def test_mixed_sizes_and_no_boxes() -> None:
    policy = Policy(subpolicies=[[{"op": "FlipX"}]])
    images = [np.zeros((8, 10, 3), np.uint8), np.zeros((6, 6, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)]
    targets = Targets(
        boxes=[[[0, 0, 2, 2]], [], [[1, 1, 3, 3], [0, 0, 1, 1]]], keypoints=[[], [[1.5, 2.0]], []]
    )
    made, found = policy.apply(images, ["a" * 32, "b" * 32, "c" * 32], targets=targets)
    assert [m.shape for m in made] == [i.shape for i in images]
    assert [np.asarray(b).tolist() for b in found.boxes] == [[[8, 0, 10, 2]], [], [[7, 1, 9, 3], [9, 0, 10, 1]]]
    assert [np.asarray(k).tolist() for k in found.keypoints] == [[], [[4.5, 2.0]], []]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"masks": [np.zeros((9, 10))]}, "the mask of image 0 is 9 x 10, but the image 8 x 10"),
        ({"masks": [np.zeros((8, 10))] * 2}, "1 images but 2 masks"),
        ({"boxes": [[[0, 0, 11, 5]]]}, r"image 0: box 0 is .* outside .* is box_format='pascal_voc' right"),
        ({"boxes": [[[0, 0, 5, 5], [3, 3, 3, 4]]]}, "image 0: box 1 is .* empty"),
        ({"boxes": [[[0, 0, np.nan, 5]]]}, "box 0"),
        ({"boxes": [[0, 0, 5, 5]]}, r"of shape \(4,\)"),
        ({"boxes": [[[3, 4, 5, 5]]], "box_format": "yolo"}, "box_format='yolo'"),
        ({"keypoints": [[[1, 2, 3]]]}, r"shape \(1, 3\)"),
        ({"keypoints": [[[1, np.inf]]]}, "finite"),
    ],
)
def test_bad_targets(targets: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        moved([Applied("FlipX", 0)], np.zeros((8, 10, 1), np.uint8), **targets)


def test_the_number_of_a_bad_image_is_that_of_the_batch() -> None:
    policy = Policy(subpolicies=[[{"op": "FlipX"}]])
    images = [np.zeros((8, 10, 3), np.uint8), np.zeros((6, 6, 3), np.uint8)]
    with pytest.raises(ValueError, match="the mask of image 1 "):
        policy.apply(images, [1, 2], targets=Targets(masks=[np.zeros((8, 10)), np.zeros((8, 10))]))
