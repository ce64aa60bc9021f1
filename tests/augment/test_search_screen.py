from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from augment.search import screen
from augment.search.evidence import Evidence, OpEvidence


def ids_of(n: int, seed: int = 0) -> tuple[str, ...]:
    rng = np.random.default_rng(seed)
    return tuple(sorted(rng.bytes(16).hex() for _ in range(n)))


def sample_of(images: Sequence[np.ndarray], labels: np.ndarray, classes: int = 2) -> screen.Sample:
    return screen.Sample(
        ids=ids_of(len(labels)),
        labels=labels.astype(np.int64),
        classes=tuple(str(i) for i in range(classes)),
        images=tuple(images),
        sizes=tuple(image.shape[:2] for image in images),
    )


def shades(n: int = 60) -> screen.Sample:
    """The class is the brightness."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = [rng.integers(40, 60, (10, 10, 1), np.uint8) + np.uint8(120 * label) for label in labels]
    return sample_of(images, labels)


def wide(op: str, level: float, sample: screen.Sample) -> Sequence[np.ndarray]:
    return screen.perturb(sample, op, level, space="wide")


def apply(sample: screen.Sample, op: str, level: float) -> Sequence[np.ndarray]:
    return wide(op, level, sample)


def made_up(
    clean: Sequence[bool], op: Sequence[Sequence[bool]], weight: np.ndarray | None = None
) -> screen.Scores:
    return screen.Scores(
        np.ones(len(clean)) if weight is None else weight, np.array(clean), {"Rotate": np.array(op)}
    )


def test_folds_are_even_within_each_class_and_follow_the_id() -> None:
    labels = np.repeat([0, 1, 2], [50, 21, 4])
    sample = sample_of([np.zeros((1, 1, 1), np.uint8)] * 75, labels, 3)
    fold = screen.folds_of(sample, 4, seed=1)
    for label in range(3):
        counts = np.bincount(fold[labels == label], minlength=4)
        assert counts.max() - counts.min() <= 1
    order = np.random.default_rng(3).permutation(75)
    assert np.array_equal(screen.folds_of(sample.take(order), 4, seed=1), fold[order])
    assert not np.array_equal(screen.folds_of(sample, 4, seed=2), fold)


def test_levels_end_at_one_and_ascend() -> None:
    for count in range(1, 32):
        levels = screen.levels_of(count)
        assert levels[-1] == 1.0
        assert levels[0] > 0
        assert list(levels) == sorted(set(levels))


def test_loss_and_error_are_those_of_the_paired_table() -> None:
    # Of 100, 90 right before; 20 of those lost, 5 others gained.
    clean = [True] * 90 + [False] * 10
    after = [False] * 20 + [True] * 70 + [True] * 5 + [False] * 5
    accuracy, loss, stderr = screen.affinity(made_up(clean, [after]), "Rotate")
    assert accuracy.tolist() == [0.75]
    assert loss.tolist() == pytest.approx([0.15])
    # McNemar: (b + c - (b - c)^2 / n) / n^2, and the one more that is assumed.
    assert stderr.tolist() == pytest.approx([np.sqrt(25 - 15**2 / 100 + 1) / 100])


def test_every_class_weighs_the_same() -> None:
    clean = [True] * 100
    after = [True] * 90 + [False] * 10  # the whole of a rare class is lost
    weight = np.concatenate([np.full(90, 100 / (2 * 90)), np.full(10, 100 / (2 * 10))])
    assert screen.affinity(made_up(clean, [after], weight), "Rotate")[1].tolist() == pytest.approx([0.5])


@pytest.mark.parametrize(
    ("lost", "ceiling"),
    [
        ((0, 0, 0), 1.0),
        ((0, 0, 90), 0.5),
        ((0, 90, 90), 0.2),
        ((90, 0, 0), 0.0),
        ((0, 90, 0), 0.2),
        ((90, 90, 90), 0.0),
    ],
)
def test_the_ceiling_is_the_last_level_before_the_first_harmful_one(
    lost: tuple[int, ...], ceiling: float
) -> None:
    after = [[False] * k + [True] * (200 - k) for k in lost]
    found = screen.judge(made_up([True] * 200, after), "Rotate", (0.2, 0.5, 1.0), 0.05)
    assert (found.ceiling, found.kept) == (ceiling, ceiling > 0)
    assert ("more than 0.05" in found.why) == (ceiling < 1)


def test_chance_is_allowed_for() -> None:
    """A tenth lost is harm among a thousand, and nothing to speak of among ten."""
    for n, kept in ((10, True), (1000, False)):
        after = [[False] * (n // 10) + [True] * (n - n // 10)]
        assert screen.judge(made_up([True] * n, after), "Rotate", (1.0,), 0.05).kept is kept


def test_what_destroys_the_label_goes_and_what_does_not_stays() -> None:
    sample = shades()
    ops = ("Invert", "Brightness", "Rotate", "Sharpness")
    levels = screen.levels_of(3)
    scores = screen.measure(sample, ops, levels, apply, folds=3)
    assert scores.clean_accuracy == 1.0
    found = {op: screen.judge(scores, op, levels, 0.1) for op in ops}
    assert not found["Invert"].kept
    assert found["Invert"].loss == (1.0, 1.0, 1.0)
    assert found["Brightness"].ceiling < 1
    assert found["Sharpness"].ceiling == 1


def test_translation_harms_where_the_place_is_the_class() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = rng.integers(0, 40, (60, 16, 16, 1), np.uint8)
    images[labels == 0, :, :5] = 220
    images[labels == 1, :, -5:] = 220
    sample = sample_of(list(images), labels)
    levels = (0.02, 1.0)
    scores = screen.measure(sample, ("TranslateX", "Posterize"), levels, apply, folds=2)
    assert screen.judge(scores, "TranslateX", levels, 0.1).ceiling == 0.02
    assert screen.judge(scores, "Posterize", levels, 0.1).ceiling == 1.0


def test_a_reduced_image_is_translated_by_reduced_pixels() -> None:
    image = np.zeros((8, 8, 1), np.uint8)
    image[:, 4] = 255
    kept = screen.Sample(("0" * 32,), np.zeros(1, np.int64), ("a",), (image,), ((64, 64),))
    full = screen.Sample(("0" * 32,), np.zeros(1, np.int64), ("a",), (image,), ((8, 8),))
    moved = screen.perturb(kept, "TranslateX", 16 / 32, space="wide")[0]  # 16 of 64 pixels: 2 of 8
    assert abs(int(moved[0, :, 0].argmax()) - 4) == 2
    assert screen.perturb(full, "TranslateX", 16 / 32, space="wide")[0].max() == 0
    # Shares of the side need no such care.
    shared = [screen.perturb(s, "TranslateX", 0.5, space="autoaugment")[0] for s in (kept, full)]
    assert np.array_equal(*shared)


def test_signs_follow_the_id_not_the_place() -> None:
    sample = sample_of(
        [np.random.default_rng(i).integers(0, 256, (9, 9, 1), np.uint8) for i in range(20)], np.zeros(20)
    )
    straight = screen.perturb(sample, "Rotate", 0.2, space="wide")
    back = screen.perturb(sample.take(np.arange(20)[::-1]), "Rotate", 0.2, space="wide")
    assert all(np.array_equal(a, b) for a, b in zip(straight, back[::-1], strict=True))


def test_kinds_and_sizes_may_be_mixed() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 2
    images = []
    for i, label in enumerate(labels):
        side, channels = 9 + i % 4, (1, 3)[i % 3 == 0]
        picture = rng.integers(0, 50, (side, side + i % 2, channels), np.uint8) + np.uint8(150 * label)
        images.append(picture.astype(np.uint16) * 16 if i % 5 == 0 else picture)
    sample = sample_of(images, labels)
    scores = screen.measure(sample, ("Invert", "Color", "Rotate"), (1.0,), apply, folds=2)
    assert scores.clean_accuracy > 0.7
    assert screen.affinity(scores, "Invert")[1][0] > 0.5


def test_evidence_goes_to_json_and_back() -> None:
    row = OpEvidence("Rotate", (0.5, 0.25), (0.0, 0.25), (0.01, 0.02), True, 0.04, True, "costs")  # noqa: FBT003  (a row)
    value = Evidence(
        learned=True, why="so", base="b", policy={"draws": 1}, classes=("ä", "b"), rows=3, folds=2,
        tolerance=0.1, clean_accuracy=0.5, levels=(0.04, 1.0), ops=(row,),
    )  # fmt: skip
    assert Evidence.from_json(value.to_json()) == value
    with pytest.raises(ValueError, match="no evidence"):
        Evidence.from_json('{"ops": [], "rows": 3, "colour": 1}')
    with pytest.raises(ValueError, match="no evidence"):
        Evidence.from_json("{}")
