from __future__ import annotations

import re

import pytest

from augment import presets
from augment.ops import NAMES
from augment.presets import PRESETS, autoaugment, preset, randaugment, trivial_augment_wide


@pytest.mark.parametrize("dataset", ["imagenet", "cifar10", "svhn"])
def test_autoaugment_has_25_sub_policies_of_two(dataset: str) -> None:
    policy = autoaugment(dataset)  # type: ignore[arg-type]  # parametrised literal
    assert len(policy.subpolicies) == 25
    assert all(len(sub.choices) == 2 for sub in policy.subpolicies)
    assert policy.space == "autoaugment"
    assert policy.draws == 1
    levels = {level * 9 for sub in policy.subpolicies for c in sub.choices for level in c.levels}
    assert all(level == pytest.approx(round(level)) for level in levels)


def test_autoaugment_by_hand() -> None:
    first, second = autoaugment("imagenet").subpolicies[0].choices
    assert (first.op, first.probability, first.magnitude) == ("Posterize", 0.4, 8 / 9)
    assert (second.op, second.probability, second.magnitude) == ("Rotate", 0.6, 1.0)
    third = autoaugment("cifar10").subpolicies[2].choices
    assert [(c.op, c.probability, c.magnitude) for c in third] == [
        ("Sharpness", 0.8, 1 / 9),
        ("Sharpness", 0.9, 3 / 9),
    ]
    last = autoaugment("svhn").subpolicies[-1].choices
    assert [(c.op, c.probability, c.magnitude) for c in last] == [("ShearX", 0.7, 2 / 9), ("Invert", 0.1, 0.0)]


def test_the_ops_of_the_policies() -> None:
    assert "ShearX" not in autoaugment("cifar10").ops
    assert set(autoaugment("svhn").ops) == {
        "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Contrast", "Solarize", "AutoContrast",
        "Equalize", "Invert",
    }  # fmt: skip
    fourteen = tuple(name for name in NAMES[:16] if name not in {"Invert", "Cutout"})
    assert randaugment().ops == trivial_augment_wide().ops == fourteen


def test_randaugment() -> None:
    policy = randaugment(num_ops=3, magnitude=15)
    assert policy.draws == 3
    programs = policy.draw(range(50), seed=1)
    assert all(len(program) == 3 for program in programs)
    turns = {abs(step.parameter) for program in programs for step in program if step.op == "Rotate"}
    assert turns == {15.0}
    with pytest.raises(ValueError, match=re.escape("0 .. 30")):
        randaugment(magnitude=31)


def test_trivial_augment_wide_draws_from_its_bins() -> None:
    programs = trivial_augment_wide().draw(range(4_000), seed=1)
    assert all(len(program) == 1 for program in programs)
    turns = {round(p[0].parameter / 4.5, 6) for p in programs if p[0].op == "Rotate"}
    assert turns <= {float(k) for k in range(-30, 31)}
    assert len(turns) > 50
    assert {p[0].parameter for p in programs if p[0].op == "Posterize"} == {2, 3, 4, 5, 6, 7, 8}


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_name_gives_a_policy(name: str) -> None:
    assert preset(name) == PRESETS[name]()


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="did you mean 'trivial_augment_wide'"):
        preset("trivialaugment_wide")
    with pytest.raises(ValueError, match="known are"):
        preset("xyzzy")
    with pytest.raises(ValueError, match="mnist"):
        autoaugment("mnist")  # type: ignore[arg-type]  # the point of the test


def test_public_names() -> None:
    assert sorted(presets.__all__) == presets.__all__
    assert all(hasattr(presets, name) for name in presets.__all__)
