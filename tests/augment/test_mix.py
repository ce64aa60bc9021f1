"""MixUp and CutMix: two images become one, and so do their labels."""

from __future__ import annotations

import numpy as np
import pytest

from augment import Policy, Targets
from augment.engine import cpu
from augment.ops import Applied

RNG = np.random.default_rng(0)


def pair(dtype: type[np.generic] = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    top = np.iinfo(dtype).max  # type: ignore[type-var]  # integers
    made = RNG.integers(0, top + 1, (2, 5, 24, 30, 3), dtype=dtype)  # type: ignore[call-overload]  # integers
    return made[0], made[1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mixup_is_the_weighted_mean(dtype: type[np.generic]) -> None:
    images, partners = pair(dtype)
    made, shares = cpu.execute(images, [[Applied("MixUp", 0.3)]] * 5, partners=partners)
    exact = 0.7 * images.astype(float) + 0.3 * partners
    assert np.abs(made - exact).max() <= 0.5 + np.iinfo(dtype).max * 1e-6  # type: ignore[type-var]  # integers
    assert shares == pytest.approx(0.3)


def test_cutmix_puts_a_rectangle_of_the_partner() -> None:
    images, partners = pair()
    program = [[Applied("CutMix", 0.25, x=0.5, y=0.5)], [Applied("CutMix", 0.25, x=0.0, y=0.999)]]
    made, shares = cpu.execute(images[:2], program, partners=partners[:2])
    taken = (made == partners[:2]).all(axis=3)
    assert taken[0, 6:18, 8:22].all()
    assert np.array_equal(made[0][~taken[0]], images[0][~taken[0]])
    assert shares == pytest.approx(taken.mean(axis=(1, 2)), abs=0.002)
    assert shares[0] == pytest.approx(12 * 15 / (24 * 30))
    assert shares[1] < shares[0]


def test_other_ops_stand_before_and_after() -> None:
    images, partners = pair()
    program = [Applied("FlipX", 0), Applied("MixUp", 0.5), Applied("Invert", 0), Applied("MixUp", 0.5)]
    made, shares = cpu.execute(images, [program] * 5, partners=partners)
    expected = images[:, :, ::-1]
    expected, _ = cpu.execute(expected, [[program[1]]] * 5, partners=partners)
    expected, _ = cpu.execute(255 - expected, [[program[3]]] * 5, partners=partners)
    assert np.array_equal(made, expected)
    assert shares == pytest.approx(0.75)


def test_in_a_policy_bytes_depend_on_the_row_alone() -> None:
    images, partners = pair()
    policy = Policy.model_validate(
        {
            "subpolicies": [
                [{"op": "MixUp", "magnitude": [0, 1]}],
                [{"op": "CutMix", "magnitude": [0, 1]}],
                [{"op": "Rotate", "magnitude": 0.3}],
            ]
        }
    )
    whole, shares = policy.apply(images, range(5), seed=2, partners=partners)
    part, few = policy.apply(list(images[[3, 1]]), [3, 1], seed=2, partners=list(partners[[3, 1]]))
    assert np.array_equal(part, whole[[3, 1]])
    assert np.array_equal(few, shares[[3, 1]])
    assert 0 <= shares.min() <= shares.max() <= 0.5


def test_what_was_compiled_takes_partners_too() -> None:
    images, partners = pair()
    policy = Policy.model_validate({"subpolicies": [[{"op": "MixUp", "magnitude": [0, 1]}]]})
    wanted, _ = policy.apply(images, range(5), seed=2, partners=partners)
    compiled = policy.compile(range(5), size=images.shape[1:], seed=2)
    assert np.array_equal(compiled.run(images, partners=partners), wanted)


def test_partners_may_be_a_list_where_images_are_an_array_and_the_other_way_round() -> None:
    images, partners = pair()
    program = [[Applied("MixUp", 0.3)]] * 5
    expected, _ = cpu.execute(images, program, partners=partners)
    made, _ = cpu.execute(images, program, partners=list(partners))
    assert np.array_equal(made, expected)
    made, _ = cpu.execute(list(images), program, partners=partners)
    assert np.array_equal(made, expected)


def test_bad_partners() -> None:
    images, partners = pair()
    with pytest.raises(ValueError, match="MixUp mixes an image with another one: give partners"):
        cpu.execute(images, [[Applied("MixUp", 0.3)]] * 5)
    with pytest.raises(ValueError, match="5 images but 4 partners"):
        cpu.execute(images, [[]] * 5, partners=partners[:4])
    with pytest.raises(ValueError, match="they must be alike"):
        cpu.execute(images, [[]] * 5, partners=partners[:, :9])
    with pytest.raises(ValueError, match="targets or partners, not both"):
        cpu.execute(images, [[]] * 5, partners=partners, targets=Targets())
