from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from augment import Policy, presets
from augment.policy.choices import Choice, SubPolicy
from augment.policy.levels import Normal
from augment.policy.schedule import Schedule

EPOCHS = st.lists(st.integers(0, 500), min_size=1, max_size=5, unique=True).map(lambda es: tuple(sorted(es)))


@st.composite
def schedules(draw: st.DrawFn, *, low: float = 0.0, high: float = 1.0, pairs: bool = False) -> Schedule:
    epochs = draw(EPOCHS)
    number = st.floats(low, high)
    value = st.tuples(number, number).map(lambda p: (min(p), max(p))) if pairs else number
    values = draw(st.lists(value, min_size=len(epochs), max_size=len(epochs)))
    return Schedule(epochs=epochs, values=tuple(values), between=draw(st.sampled_from(["step", "linear"])))


NORMALS = st.builds(
    Normal, mean=st.one_of(st.floats(0, 1), schedules()), std=st.floats(0.01, 1), low=st.none(), high=st.none()
)
CHOICES = st.builds(
    Choice,
    op=st.sampled_from(["Rotate", "Invert", "Posterize", "Color"]),
    probability=st.one_of(st.floats(0, 1), schedules()),
    magnitude=st.one_of(st.floats(0, 1), schedules(), schedules(pairs=True), NORMALS),
)
WEIGHTS = st.one_of(st.floats(0.1, 9), schedules(low=0.01, high=9))
POLICIES = st.builds(
    Policy,
    subpolicies=st.lists(
        st.builds(SubPolicy, choices=st.lists(CHOICES, min_size=1, max_size=2).map(tuple), weight=WEIGHTS),
        min_size=1, max_size=3,
    ).map(tuple),
    draws=st.integers(0, 2),
    until=st.one_of(st.none(), st.integers(0, 300)),
    bins=st.sampled_from([None, 31]),
)  # fmt: skip


# --- a value --------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(schedule=st.one_of(schedules(), schedules(pairs=True)), epoch=st.integers(0, 600))
def test_against_numpy(schedule: Schedule, epoch: int) -> None:
    values = np.array([value if isinstance(value, tuple) else (value,) for value in schedule.values])
    if schedule.between == "linear":
        expected = [np.interp(epoch, schedule.epochs, column) for column in values.T]
    else:
        place = max(int(np.searchsorted(schedule.epochs, epoch, side="right")) - 1, 0)
        expected = list(values[place])
    made = schedule.at(epoch)
    assert list(made if isinstance(made, tuple) else (made,)) == pytest.approx(expected, abs=1e-12)
    low, high = schedule.reach
    assert all(
        low <= v <= high or v == pytest.approx(low) for v in (made if isinstance(made, tuple) else (made,))
    )


@settings(deadline=None)
@given(schedule=st.one_of(schedules(), schedules(pairs=True)))
def test_json_round_trip(schedule: Schedule) -> None:
    assert Schedule.model_validate_json(schedule.model_dump_json()) == schedule


def test_ways_to_write_one() -> None:
    assert Schedule.ramp(0, 1, over=4, first=2).at(3) == 0.25
    assert Schedule.steps({30: 0.5, 0: 0.1}) == Schedule(epochs=(0, 30), values=(0.1, 0.5))
    assert Schedule.lasting([(10, 0.1), (20, 0.3), (5, 0.0)]) == Schedule.steps({0: 0.1, 10: 0.3, 30: 0.0})
    assert Schedule(epochs=(7,), values=(0.3,)).at(0) == 0.3
    with pytest.raises(ValueError, match="one epoch or more"):
        Schedule.lasting([(0, 0.1)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": [], "values": []}, "at least 1"),
        ({"epochs": [0, 1], "values": [0.1]}, "2 epochs but 1 values"),
        ({"epochs": [3, 3], "values": [0.1, 0.2]}, "ascend"),
        ({"epochs": [-1], "values": [0.1]}, "greater than or equal to 0"),
        ({"epochs": [0], "values": [float("nan")]}, "finite"),
        ({"epochs": [0, 5], "values": [0.1, [0.1, 0.2]], "between": "linear"}, "no line goes"),
        ({"epochs": [0], "values": [0.1], "between": "cubic"}, "linear"),
    ],
)
def test_bad_schedules(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Schedule.model_validate(fields)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"probability": {"epochs": [0], "values": [1.1]}}, "probability lies in 0 .. 1"),
        ({"probability": {"epochs": [0], "values": [[0, 1]]}}, "number in every epoch"),
        ({"magnitude": {"epochs": [0], "values": [-0.1]}}, "magnitude lies in 0 .. 1"),
        ({"magnitude": {"epochs": [0], "values": [[0.5, 0.4]]}}, "the lower level comes first"),
        ({"magnitude": {"mean": {"epochs": [0], "values": [[0, 1]]}, "std": 0.1}}, "a mean is a number"),
    ],
)
def test_bad_places(choice: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Choice.model_validate({"op": "Rotate", **choice})


@pytest.mark.parametrize("values", [[0.0, 0.0], [-1.0, 1.0], [[0, 1], [0, 1]]])
def test_bad_weights(values: list[object]) -> None:
    with pytest.raises(ValidationError, match="weight"):
        SubPolicy.model_validate(
            {"choices": [{"op": "Rotate"}], "weight": {"epochs": [0, 1], "values": values}}
        )


# --- policies -------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(policy=POLICIES)
def test_policies_round_trip(policy: Policy) -> None:
    again = Policy.model_validate_json(policy.model_dump_json())
    assert again == policy
    assert again.digest == policy.digest
    assert Policy.model_validate(policy.model_dump(mode="json")) == policy


@settings(deadline=None)
@given(policy=POLICIES, epoch=st.integers(0, 600))
def test_the_policy_of_an_epoch_is_plain(policy: Policy, epoch: int) -> None:
    plain = policy.at(epoch)
    assert not plain.scheduled
    assert plain.at(epoch + 1) is plain
    assert Policy.model_validate(plain.model_dump()) == plain
    assert policy.scheduled or plain is policy
    assert list(policy.draw(range(4), seed=1, epoch=epoch)) == list(plain.draw(range(4), seed=1, epoch=epoch))
    assert policy.explain()
    assert policy._repr_html_()


def test_what_an_epoch_draws() -> None:
    choice = Choice(
        op="Rotate",
        magnitude=Schedule.ramp(0.0, 0.2, over=10),
        probability=Schedule.steps({0: 0.0, 2: 1.0}),
    )
    policy = Policy(subpolicies=((choice,),)).off_for_last(10, of=100)
    assert list(policy.draw(range(5), epoch=1)) == [()] * 5
    assert {abs(program[0].parameter) for program in policy.draw(range(5), epoch=5)} == {13.5}
    assert {abs(program[0].parameter) for program in policy.draw(range(5), epoch=89)} == {27.0}
    assert list(policy.draw(range(5), epoch=90)) == [()] * 5


def test_weights_of_an_epoch() -> None:
    policy = Policy(
        subpolicies=(
            SubPolicy(choices=(Choice(op="Invert"),), weight=Schedule.steps({0: 1.0, 5: 0.0})),
            SubPolicy(choices=(Choice(op="Equalize"),), weight=Schedule.steps({0: 0.0, 5: 1.0, 9: 0.0})),
        )
    )
    assert policy.at(4).ops == ("Invert",)
    assert policy.at(5).ops == ("Equalize",)
    assert policy.at(9).draws == 0
    assert list(policy.draw(range(3), epoch=9)) == [()] * 3


def test_screens_see_through_schedules() -> None:
    policy = Policy(
        subpolicies=(
            (Choice(op="Rotate", magnitude=Schedule.ramp(0, 1, over=10)), Choice(op="Invert")),
            (Choice(op="Color", parameter=Schedule.steps({0: 1.2, 5: 1.9})),),
        )
    )
    low = policy.with_ceilings({"Rotate": 0.5, "Color": 0.5})
    assert low.at(99).subpolicies[0].choices[0].magnitude == 0.5
    assert low.at(99).subpolicies[1].choices[0].parameter == pytest.approx(1.495)
    assert policy.without("Rotate").at(3).ops == ("Color", "Invert")
    assert policy.weighted({"Rotate": 3}).at(0).subpolicies[0].weight == 3


def test_off_for_last() -> None:
    policy = presets.trivial_augment_wide()
    assert policy.off_for_last(0, of=90).until == 90
    with pytest.raises(ValueError, match=r"0 \.\. 90"):
        policy.off_for_last(91, of=90)


def test_old_policies_keep_their_json_and_their_digest() -> None:
    policy = presets.trivial_augment_wide()
    assert policy.digest == "9719b297e3b84f7504c6783a4b0e5f91"
    assert set(policy.model_dump()) == {"subpolicies", "draws", "bins", "space", "resampling", "name"}
    assert set(policy.model_dump()["subpolicies"][1]["choices"][0]) == {"op", "probability", "magnitude"}
    new = [
        policy.model_copy(update={"distinct": True}),
        policy.off_for_last(1, of=90),
        policy.off_for_last(2, of=90),
        Policy(subpolicies=((Choice(op="Rotate", parameter=3),),)),
        Policy(subpolicies=((Choice(op="Rotate", parameter=3, mirrored=True),),)),
        Policy(subpolicies=((Choice(op="Rotate", magnitude=Normal(mean=0.3, std=0.1)),),)),
        Policy(subpolicies=((Choice(op="Rotate", magnitude=Schedule.ramp(0, 1, over=3)),),)),
    ]
    assert len({p.digest for p in [policy, *new]}) == 8


def test_in_words() -> None:
    policy = Policy(
        name="all",
        subpolicies=(
            SubPolicy(
                choices=(
                    Choice(
                        op="Rotate",
                        magnitude=Schedule.ramp(0, 1, over=10),
                        probability=Schedule.steps({0: 0, 5: 1}),
                    ),
                ),
                weight=Schedule.steps({0: 1, 50: 2}),
            ),
            SubPolicy(choices=(Choice(op="Color", magnitude=Normal(mean=0.5, std=0.1)),)),
            SubPolicy(choices=(Choice(op="Solarize", parameter=(10, 20)),)),
            SubPolicy(choices=(Choice(op="Rotate", parameter=45, mirrored=True),)),
            SubPolicy(choices=(Choice(op="Rotate", parameter=Normal(mean=5, std=1)),)),
        ),
        distinct=True,
        until=90,
        space="autoaugment",
        bins=None,
    )
    rotation = "never, from epoch 5 always, 0.0° at epoch 0, in a line to ±30.0° at epoch 10"
    assert policy.explain().splitlines() == [
        "all: 1 of 5 sub-policies that differ per image, none from epoch 90 on, any levels, nearest resampling",
        f"   20.0 %  Rotate: {rotation}; weight 1, from epoch 50 2",
        "   20.0 %  Color: always, x0.55 or x1.45 give or take 0.09, within x1.00 to x0.10 or x1.90",
        "   20.0 %  Solarize: always, from 10 on to from 20 on",
        "   20.0 %  Rotate: always, ±45.0°",
        "   20.0 %  Rotate: always, 5.0° give or take 1",
    ]
