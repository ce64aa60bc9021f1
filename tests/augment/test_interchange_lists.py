from __future__ import annotations

from itertools import permutations, product
from math import factorial, prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment import Policy, presets
from augment.interchange import InterchangeError, InterchangeWarning, dump, load
from augment.interchange.numbers import difference
from augment.ops import OPS
from augment.policy.choices import Choice, SubPolicy
from augment.policy.levels import Normal
from augment.policy.schedule import Schedule


def parameter(choice: Choice, sign: float = 1.0) -> float:
    level, *_ = choice.law("autoaugment")
    return float(OPS[choice.op].range("autoaugment").parameter(level, sign if choice.signed else 1.0))


def test_a_level_between_the_last_and_none_is_refused() -> None:
    with pytest.raises(InterchangeError, match=r"lies in 0 \.\. 9, not 9\.5"):
        load([[("Rotate", 0.5, 9.5)]], "autoaugment")


# --- Fast AutoAugment -----------------------------------------------------------------------------------

# Op, level and value as FastAutoAugment/augmentations.py has them: level * (high - low) + low, mirrored or not.
FAST = [
    ("ShearX", 0.9, 0.24, True),
    ("ShearY", 0.1, -0.24, True),
    ("TranslateX", 1.0, 0.45, True),
    ("TranslateY", 0.25, -0.225, True),
    ("Rotate", 0.8, 18.0, True),
    ("Rotate", 0.5, 0.0, True),
    ("Solarize", 0.3, 76.8, False),
    ("Posterize", 0.1, 4, False),
    ("Posterize", 0.8, 7, False),
    ("Posterize2", 0.6, 2, False),
    ("Contrast", 0.67, 1.306, False),
    ("Color", 0.0, 0.1, False),
    ("Brightness", 1.0, 1.9, False),
    ("Sharpness", 0.5, 1.0, False),
    ("Cutout", 0.7, 0.14, False),
]


@pytest.mark.parametrize(("op", "level", "value", "mirrored"), FAST)
def test_the_values_of_fast_autoaugment(op: str, level: float, value: float, mirrored: bool) -> None:
    policy = load([[(op, 0.3, level)]])
    (choice,) = policy.subpolicies[0].choices
    assert choice.probability == 0.3
    made = {round(parameter(choice, sign), 9) + 0.0 for sign in (1.0, -1.0)}
    assert made == ({round(value, 9) + 0.0, round(-value, 9) + 0.0} if mirrored else {value})


def test_fast_autoaugment_as_text() -> None:
    data = [[("Contrast", 0.83, 0.67), ("Posterize", 0.2, 0.1)], [("Invert", 0.5, 0.3), ("Flip", 0.5, 0.0)]]
    policy = load(data)
    assert (policy.draws, policy.bins, policy.space, policy.name) == (1, None, "autoaugment", "fast")
    assert load(str(data)) == policy
    assert (
        load(
            '[[["Contrast", 0.83, 0.67], ["Posterize", 0.2, 0.1]], [["Invert", 0.5, 0.3], ["Flip", 0.5, 0.0]]]'
        )
        == policy
    )
    assert policy.ops == ("Contrast", "Posterize", "Invert", "FlipX")


def test_pixels_need_a_side() -> None:
    data = [[("CutoutAbs", 0.3, 0.5), ("TranslateXAbs", 0.3, 0.8)]]
    with pytest.raises(InterchangeError, match=r"CutoutAbs is in pixels: .*side=32"):
        load(data)
    cutout, move = load(data, side=32).subpolicies[0].choices
    assert parameter(cutout) * 32 == pytest.approx(10)
    assert parameter(move) * 32 == pytest.approx(8)


def test_no_bits_is_said() -> None:
    with pytest.warns(InterchangeWarning, match="Posterize2: Posterize to 0 bits"):
        assert load([[("Posterize2", 0.3, 0.2)]]).subpolicies[0].choices[0].parameter == 1


LEVELS = st.integers(0, 1000).map(lambda n: n / 1000)
FAST_OPS = [
    "ShearX",
    "TranslateY",
    "Rotate",
    "Solarize",
    "Contrast",
    "Color",
    "Cutout",
    "Invert",
    "Equalize",
    "Flip",
]
FAST_LISTS = st.lists(
    st.lists(st.tuples(st.sampled_from(FAST_OPS), LEVELS, LEVELS), min_size=1, max_size=3),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(data=FAST_LISTS)
def test_fast_round_trip(data: list[list[tuple[str, float, float]]]) -> None:
    policy = load(data, "fast")
    again = load(dump(policy, "fast"), "fast")
    assert again == policy
    assert dump(again, "fast") == dump(policy, "fast")


FIXED = st.builds(
    Choice,
    op=st.sampled_from([name for name in OPS if OPS[name].code < 16]),
    probability=LEVELS,
    magnitude=LEVELS,
)


@settings(deadline=None)
@given(
    policy=st.builds(
        Policy,
        subpolicies=st.lists(st.lists(FIXED, min_size=1, max_size=2), min_size=1, max_size=2),
        space=st.just("autoaugment"),
        bins=st.none(),
    )
)
def test_a_policy_comes_back_or_is_refused(policy: Policy) -> None:
    unsayable = {"Identity", "Color", "Contrast", "Brightness", "Sharpness"}  # not there, or not mirrored there
    far = {
        choice.op
        for sub in policy.subpolicies
        for choice in sub.choices
        if choice.op.startswith("Translate") and choice.levels[1] * 150 / 331 > 0.45
    }
    if (unsayable | far) & set(policy.ops):
        with pytest.raises(InterchangeError, match="|".join(policy.ops)):
            dump(policy, "fast")
    else:
        assert difference(load(dump(policy, "fast"), "fast"), policy) == ""


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (presets.randaugment(), "draws: this format draws one"),
        (presets.trivial_augment_wide(), "Identity: Fast AutoAugment has no such op"),
        (
            Policy(subpolicies=((Choice(op="Rotate", magnitude=(0, 1)),),)),
            "Rotate: this format has fixed magnitudes",
        ),
        (Policy(subpolicies=((Choice(op="Rotate", parameter=3),),)), "Rotate: this format mirrors it"),
        (Policy(subpolicies=((Choice(op="Color", magnitude=0.5),),)), "Color: this format does not mirror it"),
        (
            Policy(subpolicies=((Choice(op="Rotate", magnitude=Normal(mean=0.5, std=0.1)),),)),
            "Rotate: this format has fixed",
        ),
        (
            Policy(subpolicies=((Choice(op="Rotate", magnitude=0.9),),), space="wide"),
            "this format cannot say it: sub-policy 1",
        ),
        (Policy(subpolicies=((Choice(op="Invert"),),)).off_for_last(1, of=2), "knows no epochs"),
        (
            Policy(subpolicies=(SubPolicy(choices=(Choice(op="Invert"),), weight=2), (Choice(op="Equalize"),))),
            "weights:",
        ),
        (Policy(subpolicies=((Choice(op="Invert"),),), distinct=True), ""),
    ],
)
def test_what_fast_autoaugment_cannot_say(policy: Policy, message: str) -> None:
    if not message:
        assert dump(policy, "fast") == [[("Invert", 1.0, 0.0)]]
        return
    with pytest.raises(InterchangeError, match=message):
        dump(policy, "fast")


# --- AutoAugment ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["imagenet", "cifar10", "svhn"])
def test_the_papers_tuples(dataset: str) -> None:
    policy = presets.autoaugment(dataset)  # type: ignore[arg-type]  # parametrised literal
    made = dump(policy, "autoaugment")
    assert load(made, "autoaugment") == policy.model_copy(update={"name": "autoaugment"})
    if dataset == "imagenet":
        assert made[:2] == [
            [("Posterize", 0.4, 8), ("Rotate", 0.6, 9)],
            [("Solarize", 0.6, 5), ("AutoContrast", 0.6, None)],
        ]
    assert load(str(made)) == load(made)


PAPER = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["Rotate", "Posterize", "Color", "Invert"]), LEVELS, st.integers(0, 9)),
        min_size=1, max_size=3,
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(deadline=None)
@given(data=PAPER)
def test_autoaugment_round_trip(data: list[list[tuple[str, float, int]]]) -> None:
    policy = load(data, "autoaugment")
    assert load(dump(policy, "autoaugment"), "autoaugment") == policy


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[("Rotat", 0.5, 3)]], "Rotat: the AutoAugment paper has no such op"),
        ([[("Rotate", 0.5, 10)]], r"lies in 0 \.\. 9"),
        ([[("Rotate", 0.5, -1)]], r"lies in 0 \.\. 9"),
        ([[("Rotate", 1.5, 3)]], "sub-policy 1: .* is not"),
        ([[("Rotate", 0.5)]], "sub-policy 1"),
        ([[("Rotate", 0.5, 3)], []], "sub-policy 2 is not a list"),
        ([[("Rotate", 0.5, 1.5)]], "magnitude of Fast AutoAugment"),
        ([[("Jpeg", 0.5, 0.5)]], "Jpeg: Fast AutoAugment has no such op"),
    ],
)
def test_bad_lists(data: object, message: str) -> None:
    with pytest.raises(InterchangeError, match=message):
        load(data)


def test_what_the_paper_cannot_say() -> None:
    odd = Policy(subpolicies=((Choice(op="Rotate", magnitude=0.5),),), space="autoaugment")
    with pytest.raises(InterchangeError, match=r"Rotate: the level 0\.5 is none of this format's ten"):
        dump(odd, "autoaugment")
    with pytest.raises(InterchangeError, match=r"Rotate: this format has magnitudes 0 \.\. 9 only"):
        dump(Policy(subpolicies=((Choice(op="Rotate", parameter=3),),)), "autoaugment")


# --- Population Based Augmentation ----------------------------------------------------------------------


def outcomes(chances: list[float]) -> dict[tuple[int, ...], float]:
    """What comes about, by going through all orders and all coins."""
    made: dict[tuple[int, ...], float] = {}
    for wanted, share in enumerate((0.2, 0.3, 0.5)):
        for order in permutations(range(len(chances))):
            for coins in product([False, True], repeat=len(order)):
                weight = prod(
                    chances[i] if coin else 1 - chances[i] for i, coin in zip(order, coins, strict=True)
                )
                done = tuple([i for i, coin in zip(order, coins, strict=True) if coin][:wanted])
                made[done] = made.get(done, 0.0) + share * weight / factorial(len(order))
    return made


@settings(deadline=None, max_examples=25)
@given(chances=st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_the_weights_of_pba(chances: list[float]) -> None:
    ops = ["Invert", "Equalize", "AutoContrast", "Rotate"][: len(chances)]
    policy = load([(10, [(op, p, 3) for op, p in zip(ops, chances, strict=True)])])
    made = {tuple(c.op for c in sub.choices if c.op != "Identity"): sub.weight for sub in policy.subpolicies}
    expected = {tuple(ops[i] for i in done): weight for done, weight in outcomes(chances).items()}
    for done, weight in expected.items():
        assert made.get(done, 0.0) == pytest.approx(weight, abs=1e-11)


def test_a_schedule_of_pba() -> None:
    # PBA's int_parameter, float_parameter and image size of 32.
    policy = load(
        [
            (10, [("Rotate", 1.0, 3), ("TranslateX", 0.0, 9), ("Color", 0.0, 0)]),
            (5, [("Rotate", 0.0, 9), ("TranslateX", 1.0, 9), ("Cutout", 1.0, 7)]),
            (5, [("Rotate", 1.0, 5), ("Rotate", 1.0, 7)]),
        ]
    )
    assert {sub.choices[0].op for sub in policy.at(0).subpolicies} == {"Identity", "Rotate"}
    assert {step.op for program in policy.draw(range(200), epoch=12) for step in program} == {
        "Identity", "TranslateX", "Cutout",
    }  # fmt: skip
    turns = {
        round(abs(step.parameter), 9)
        for epoch in (0, 19, 400)
        for program in policy.draw(range(200), epoch=epoch)
        for step in program
        if step.op == "Rotate"
    }
    assert turns == {9, 15, 21}
    cutout = next(c for sub in policy.at(12).subpolicies for c in sub.choices if c.op == "Cutout")
    assert parameter(cutout) * 32 == pytest.approx(14)
    move = next(c for sub in policy.at(12).subpolicies for c in sub.choices if c.op == "TranslateX")
    assert parameter(move) * 32 == pytest.approx(9)


def test_a_part_of_pba_that_comes_back() -> None:
    policy = load([(2, [("Color", 1.0, 1)]), (2, [("Color", 1.0, 5)]), (2, [("Color", 1.0, 5)])])
    (color,) = policy.subpolicies[1].choices
    assert color.parameter == Schedule.steps({0: 0.28, 2: 1.0})


def test_thirty_ops_as_pba_has_them() -> None:
    ops = [name for name in OPS if OPS[name].code < 16 and name != "Identity"]
    policy = load([(10, [(op, 0.3, 4) for op in ops * 2]), (10, [(op, 0.5, 4) for op in ops * 2])])
    for epoch in (0, 10):
        assert sum(sub.weight_at(epoch) for sub in policy.subpolicies) == pytest.approx(1, abs=1e-9)
    assert len(policy.subpolicies) == 1 + 30 + 30 * 29


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([(10, [("Rotat", 0.5, 3)])], "Rotat: PBA has no such op"),
        ([(10, [("Rotate", 0.5, 11)])], r"lies in 0 \.\. 10"),
        ([(0, [("Rotate", 0.5, 1)])], "is not"),
        ([(3, [])], "is not"),
        ([(3, [("Rotate", 0.5)])], "sub-policy 1"),
    ],
)
def test_bad_schedules_of_pba(data: object, message: str) -> None:
    with pytest.raises(InterchangeError, match=message):
        load(data, "pba")
