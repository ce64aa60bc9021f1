"""Ops of one's own, and albumentations' transforms, inside policies."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import augment
from augment import Policy, Targets, custom
from augment.ops import find

Array = npt.NDArray[Any]
HERE = __name__


@augment.op(magnitude=(0, 40), words="{p:.0f} rows")
def venetian(image: Array, parameter: float, rng: np.random.Generator) -> Array:
    """Rows that are black."""
    out = image.copy()
    out[rng.permutation(len(image))[: round(parameter)]] = 0
    return out


@augment.op
def spoiler(image: Array, _parameter: float, _rng: np.random.Generator) -> Array:
    image[:] = 0
    return image


@augment.op
def shrinker(image: Array, _parameter: float, _rng: np.random.Generator) -> Array:
    return image[1:]


def _roll(array: Array, parameter: float, rng: np.random.Generator, *, twice: bool = False) -> Array:
    return np.roll(array, (1 + twice) * int(parameter * rng.random() + 1), axis=1)


@augment.op(
    magnitude=(0, 9), mask=_roll,
    points=lambda points, parameter, rng, size, twice=False: np.stack(
        [(points[:, 0] + (1 + twice) * int(parameter * rng.random() + 1)) % size[1], points[:, 1]], axis=1
    ),
)  # fmt: skip
def roll(image: Array, parameter: float, rng: np.random.Generator, *, twice: bool = False) -> Array:
    return _roll(image, parameter, rng, twice=twice)


def images(n: int = 6, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(1, 255, (n, 24, 32, 3), dtype=np.uint8)


def policy(*ops: Any, **fields: Any) -> Policy:
    return Policy.model_validate({"subpolicies": [[{"op": op, **fields} for op in ops]]})


@pytest.mark.parametrize("name", [f"{HERE}.venetian", "albumentations.GaussNoise", "albumentations.Rotate"])
def test_bytes_depend_on_the_id_alone(name: str) -> None:
    if name.startswith("albumentations"):
        pytest.importorskip("albumentations")
    made = policy("Rotate", name, "Invert", magnitude=0.5)
    whole = made.apply(images(), range(6), seed=4)
    order = [5, 1, 3]
    assert np.array_equal(made.apply(images()[order], order, seed=4), whole[order])
    assert np.array_equal(pickle.loads(pickle.dumps(made)).apply(images(), range(6), seed=4), whole)
    assert not np.array_equal(made.apply(images(), range(6), seed=5), whole)
    same = made.apply(images()[:1].repeat(4, axis=0), range(4), seed=4)
    assert len({image.tobytes() for image in same}) == 4  # rows do not repeat each other


def test_a_custom_op_gets_its_parameter_and_stands_in_words() -> None:
    made = policy(f"{HERE}.venetian", magnitude=0.25)
    black = (made.apply(images(), range(6)).sum(axis=(2, 3)) == 0).sum(axis=1)
    assert black.tolist() == [10] * 6
    (program,) = made.draw([3])
    assert made.describe(program) == f"{HERE}.venetian 10 rows"
    assert f"{HERE}.venetian" in made.ops
    assert "10 rows" in made.explain()
    assert Policy.model_validate_json(made.model_dump_json()) == made
    assert made.with_ceilings({f"{HERE}.venetian": 0.1}).subpolicies[0].choices[0].magnitude == 0.1
    assert made.without([f"{HERE}.venetian"]).ops == ("Identity",)


def test_a_search_screens_and_limits_custom_ops() -> None:
    from augment.search.screen import Sample, measure, perturb

    twice = {"op": f"{HERE}.roll", "magnitude": [0, 1], "options": {"twice": True}}
    base = Policy.model_validate({"subpolicies": [[twice], [{"op": f"{HERE}.venetian", "magnitude": [0, 1]}]]})
    assert base.ops == (f"{HERE}.roll{custom.spell('', {'twice': True})}", f"{HERE}.venetian")
    draw = np.random.default_rng(0)
    pictures = tuple(
        np.full((16, 16, 1), 40 + 150 * (i % 2), np.uint8) + draw.integers(0, 9, (16, 16, 1), np.uint8)
        for i in range(40)
    )
    sample = Sample(
        tuple(f"{i:032x}" for i in range(40)), np.arange(40) % 2, ("dark", "light"), pictures, ((16, 16),) * 40
    )

    def apply(some: Sample, op: str, level: float) -> Any:
        return perturb(some, op, level, space="wide")

    scores = measure(sample, base.ops, (0.5, 1.0), apply, folds=2, seed=0, resolution=16)
    assert set(scores.ops) == set(base.ops)
    assert base.without([base.ops[0]]).ops == (f"{HERE}.venetian",)
    assert base.without([f"{HERE}.roll"]).ops == (f"{HERE}.venetian",)
    assert base.with_ceilings({base.ops[0]: 0.3}).subpolicies[0].choices[0].magnitude == (0, 0.3)
    assert base.restricted(only=[base.ops[0]]).ops == base.ops[:1]
    assert [sub.weight for sub in base.weighted({base.ops[0]: 3}).subpolicies] == [3, 1]


def test_options_reach_the_function() -> None:
    made = policy(f"{HERE}.roll", magnitude=1.0, options={"twice": True})
    one = policy(f"{HERE}.roll", magnitude=1.0)
    picture = images(1)
    shift = [k for k in range(32) if np.array_equal(one.apply(picture, [3])[0], np.roll(picture[0], k, axis=1))]
    assert np.array_equal(made.apply(picture, [3])[0], np.roll(picture[0], 2 * shift[0], axis=1))
    with pytest.raises(ValueError, match="takes no option 'thrice'; it has twice"):
        policy(f"{HERE}.roll", options={"thrice": True})


def test_targets_move_with_a_custom_op() -> None:
    mask = np.zeros((24, 32), np.uint8)
    mask[5, 7] = 9
    made = policy(f"{HERE}.roll", magnitude=1.0)
    result, moved = made.apply(images(1), [3], targets=Targets(masks=[mask], keypoints=[[[7.5, 5.5]]]))
    assert np.array_equal(result[0] == images(1)[0][:, :1], result[0] == images(1)[0][:, :1])
    ((row, column),) = np.argwhere(moved.masks[0])
    assert np.asarray(moved.keypoints[0])[0].tolist() == [column + 0.5, row + 0.5]
    assert column > 7


def test_an_op_cannot_spoil_its_input_or_change_the_shape() -> None:
    with pytest.raises(ValueError, match="read-only") as caught:
        policy(f"{HERE}.spoiler").apply(images(), range(6))
    assert any("spoiler" in note for note in caught.value.__notes__)
    with pytest.raises(
        ValueError, match=r"shrinker made uint8 .23, 32, 3. of uint8 .24, 32, 3.: an op keeps both"
    ):
        policy(f"{HERE}.shrinker").apply(images(), range(6))


def test_unknown_custom_ops() -> None:
    with pytest.raises(ValueError, match=rf"did you mean {HERE}.venetian"):
        find(f"{HERE}.venetain")
    with pytest.raises(ValueError, match=r"policy is no op: decorate it with augment.op"):
        find(f"{HERE}.policy")
    with pytest.raises(ValueError, match=r"no module 'not_there' has been imported.*plugins:"):
        find("not_there.op")


def test_nothing_is_imported_because_a_policy_says_so(tmp_path: Path) -> None:
    (tmp_path / "quiet_ops.py").write_text(
        "import augment\nprint('imported')\n@augment.op\ndef dark(image, parameter, rng): return image // 2\n"
    )
    code = """
import pickle, numpy as np
from augment import Policy
fields = {'subpolicies': [[{'op': 'quiet_ops.dark'}]]}
try: Policy.model_validate(fields)
except ValueError as error: print('refused')
import quiet_ops
open('policy.pickle', 'wb').write(pickle.dumps(Policy.model_validate(fields)))
"""
    again = (
        "import pickle, numpy as np; p = pickle.load(open('policy.pickle', 'rb'));"
        "print(p.apply(np.full((1, 4, 4, 3), 8, np.uint8), [1]).max())"
    )
    run = [
        subprocess.run([sys.executable, "-c", c], cwd=tmp_path, capture_output=True, text=True, check=True)
        for c in (code, again)
    ]
    assert run[0].stdout.split() == ["refused", "imported"]
    assert run[1].stdout.split() == ["imported", "4"]  # a pickle may import


# --- albumentations -------------------------------------------------------------------------------------


@pytest.fixture
def a() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("albumentations")


def test_a_deterministic_transform_is_what_albumentations_does(a: Any) -> None:
    made = policy("albumentations.ToSepia").apply(images(), range(6))
    assert np.array_equal(made[2], a.ToSepia(p=1)(image=images()[2])["image"])
    clahe = policy("albumentations.CLAHE", options={"clip_limit": [3, 3], "tile_grid_size": [4, 4]})
    expected = a.CLAHE(clip_limit=(3, 3), tile_grid_size=(4, 4), p=1)(image=images()[0])["image"]
    assert np.array_equal(clahe.apply(images(), range(6))[0], expected)


def test_a_magnitude_reaches_an_option(a: Any) -> None:
    options = {"gamma_limit": {"magnitude": [[100, 100], [200, 200]]}}
    half = policy("albumentations.RandomGamma", magnitude=0.5, options=options).apply(images(), range(6))
    assert np.array_equal(half[0], a.RandomGamma(gamma_limit=(150, 150), p=1)(image=images()[0])["image"])
    none = policy("albumentations.RandomGamma", magnitude=0.0, options=options).apply(images(), range(6))
    assert np.abs(none.astype(int) - images()).max() <= 1


def test_targets_move_with_albumentations(a: Any) -> None:
    picture = np.zeros((1, 40, 40, 3), np.uint8)
    picture[0, 10:14, 20:24] = 255
    made = policy("albumentations.Affine", options={"rotate": [20, 40], "interpolation": 0})
    result, moved = made.apply(
        picture, [3], seed=1, targets=Targets(masks=[picture[0, ..., 0]], keypoints=[[[22.0, 12.0]]])
    )
    assert np.array_equal(moved.masks[0] > 0, result[0, ..., 0] > 0)
    x, y = np.asarray(moved.keypoints[0])[0]
    rows, columns = np.nonzero(result[0, ..., 0])
    assert abs(x - columns.mean() - 0.5) < 1
    assert abs(y - rows.mean() - 0.5) < 1


@pytest.mark.parametrize(
    "name",
    [
        "GaussianBlur",
        "MotionBlur",
        "ElasticTransform",
        "RandomBrightnessContrast",
        "CoarseDropout",
        "HueSaturationValue",
        "GridDistortion",
        "ISONoise",
        "ImageCompression",
        "RandomFog",
        "ShiftScaleRotate",
        "Posterize",
        "OpticalDistortion",
        "PlasmaShadow",
        "RandomRain",
    ],
)
def test_many_transforms_run_and_repeat_for_a_row(a: Any, name: str) -> None:
    made = policy(f"albumentations.{name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = made.apply(images(), range(6), seed=2)
        assert np.array_equal(made.apply(images()[3:4], [3], seed=2)[0], first[3])
    assert first.shape == images().shape


def test_albumentations_complains_early(a: Any) -> None:
    with pytest.raises(ValueError, match=r"did you mean albumentations\.CLAHE"):
        policy("albumentations.CLAEH")
    with pytest.raises(ValueError, match=r"albumentations.Blur does not take .*clip_limit"):
        policy("albumentations.Blur", options={"clip_limit": 3})
    with pytest.raises(ValueError, match=r"RandomCrop.* an op keeps both"):
        policy("albumentations.RandomCrop", options={"height": 8, "width": 8}).apply(images(), range(6))
    assert custom.split(custom.spell("a.b", {"x": [1]})) == ("a.b", {"x": [1]})
