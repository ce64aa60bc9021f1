from __future__ import annotations

import math
from collections import Counter
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from augment import Policy, presets
from augment.ops import NAMES, OPS
from augment.policy.choices import Choice, SubPolicy
from augment.policy.levels import Normal, drawn, law_of_parameter, quantile

FROZEN_QUANTILES = [
    "-0x1.095b059d67c4cp+3",
    "-0x1.06b48528cea51p+3",
    "-0x1.7fdc11f44b5a7p+2",
    "-0x1.29c5c4630ff0ep+1",
    "-0x1.0c7e39582c5fap-1",
    "0x1.7085226d3e524p+0",
    "0x1.10f3f8843a850p+2",
]


def one(choice: Choice, **fields: object) -> Policy:
    return Policy(subpolicies=((choice,),), **{"bins": None, **fields})  # type: ignore[arg-type]


def parameters(policy: Policy, n: int = 4_000, epoch: int = 0) -> np.ndarray:
    return np.array(
        [step.parameter for program in policy.draw(range(n), seed=3, epoch=epoch) for step in program]
    )


# --- the normal distribution ----------------------------------------------------------------------------


def test_quantile_against_the_standard_library() -> None:
    u = np.concatenate(
        [np.random.default_rng(0).random(2_000), 2.0 ** -np.arange(1, 54), 1 - 2.0 ** -np.arange(2, 54)]
    )
    expected = np.array([NormalDist().inv_cdf(float(p)) for p in u])
    assert np.abs(quantile(u) - expected).max() < 4e-15


def test_quantile_is_monotone_odd_and_finite() -> None:
    u = np.linspace(0, 1, 100_001)[:-1]
    made = quantile(u)
    assert np.all(np.diff(made) >= 0)
    assert np.isfinite(made).all()
    assert np.allclose(made[1:], -made[1:][::-1], atol=1e-9)


def test_frozen_quantiles() -> None:
    # Bits, so that a machine with another logarithm would be found out.
    u = np.array([0.0, 2.0**-53, 1e-9, 0.01, 0.3, 0.925, 0.99999])
    assert [float(v).hex() for v in quantile(u)] == FROZEN_QUANTILES


def test_normal_magnitudes() -> None:
    made = parameters(
        one(Choice(op="Rotate", magnitude=Normal(mean=0.5, std=0.1)), space="autoaugment"), 20_000
    )
    size = np.abs(made)
    assert abs(size.mean() - 15) < 0.1
    assert abs(size.std() - 3) < 0.1
    assert abs((made > 0).mean() - 0.5) < 0.02
    # Kolmogorov and Smirnov: 1.95 / sqrt(n) is the 99.9 % point.
    share = np.sort([NormalDist(15, 3).cdf(float(v)) for v in size])
    assert np.abs(share - (np.arange(20_000) + 0.5) / 20_000).max() < 1.95 / math.sqrt(20_000)


def test_normal_ones_are_clipped() -> None:
    made = parameters(one(Choice(op="Solarize", magnitude=Normal(mean=0.9, std=0.2))), 2_000)
    assert made.min() == 0.0  # level 1
    assert 0.2 < (made == 0.0).mean() < 0.4
    law = Normal(mean=1.72, std=0.5, low=1.5, high=1.9)
    made = parameters(one(Choice(op="Color", parameter=law)), 2_000)
    assert made.min() == pytest.approx(1.5)
    assert made.max() == pytest.approx(1.9)


def test_the_same_levels_in_any_batches() -> None:
    policy = one(Choice(op="Rotate", magnitude=Normal(mean=0.5, std=0.1)))
    whole = list(policy.draw(range(40), seed=9))
    assert [policy.draw([i], seed=9)[0] for i in range(40)] == whole


# --- parameters -----------------------------------------------------------------------------------------


def test_a_parameter_is_what_it_says_in_any_space() -> None:
    for space in ("wide", "autoaugment"):
        for value in (0, 1, 10, 128, 230, 255):
            assert set(parameters(one(Choice(op="Solarize", parameter=value), space=space), 50)) == {value}
        for op, value in (("Rotate", -45.0), ("Rotate", 150.0), ("Color", 0.1), ("Posterize", 1.0)):
            made = parameters(one(Choice(op=op, parameter=value), space=space), 50)
            assert np.abs(made - value).max() < 1e-12


def test_a_parameter_is_mirrored_where_it_says_so() -> None:
    assert set(parameters(one(Choice(op="Rotate", parameter=45, mirrored=True)), 50)) == {-45.0, 45.0}
    assert set(np.round(parameters(one(Choice(op="Color", parameter=1.5, mirrored=True)), 50), 9)) == {0.5, 1.5}
    assert set(parameters(one(Choice(op="Posterize", parameter=3, mirrored=True)), 50)) == {3.0}


def test_a_parameter_from_a_range() -> None:
    made = parameters(one(Choice(op="Rotate", parameter=(-10, 30))))
    assert -10 <= made.min() < -9.5
    assert 29.5 < made.max() <= 30
    assert abs(made.mean() - 10) < 1


@settings(deadline=None)
@given(
    op=st.sampled_from([name for name in NAMES if OPS[name].has_magnitude]),
    space=st.sampled_from(["wide", "autoaugment"]),
    value=st.floats(-300, 300),
)
def test_levels_of_parameters(op: str, space: str, value: float) -> None:
    span = OPS[op].range(space)  # type: ignore[arg-type]  # sampled literals
    level, same, *_ = law_of_parameter(value, span)
    assert level == same
    assert span.zero + (span.full - span.zero) * level == pytest.approx(value, rel=1e-15, abs=1e-13)


def test_drawn_keeps_the_old_arithmetic() -> None:
    u = np.random.default_rng(1).random(1_000)
    laws = np.tile([0.2, 0.7, 0, 0, 0], (1_000, 1))
    assert np.array_equal(drawn(u, laws, None), 0.2 + (0.7 - 0.2) * u)
    assert np.array_equal(drawn(u, laws, 31), 0.2 + (0.7 - 0.2) * (np.floor(u * 31) / 30))


def test_ceilings_hold_for_everything() -> None:
    policy = Policy(
        subpolicies=(
            (Choice(op="Rotate", magnitude=Normal(mean=0.9, std=0.3)),),
            (Choice(op="Rotate", parameter=(-100, 20)),),
            (Choice(op="Rotate", parameter=120, mirrored=True),),
            (Choice(op="Rotate", parameter=Normal(mean=90, std=40)),),
        ),
        bins=None,
    ).with_ceilings({"Rotate": 0.1})
    made = parameters(policy)
    assert np.abs(made).max() <= 13.5 + 1e-9
    assert made.min() < -13
    solarize = one(Choice(op="Solarize", parameter=(0, 255))).with_ceilings({"Solarize": 0.25})
    assert parameters(solarize).min() >= 255 * 0.75 - 1e-9


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"magnitude": {"mean": 0.5, "std": 0}}, "greater than 0"),
        ({"magnitude": {"mean": 1.5, "std": 0.1}}, "lies in 0 .. 1"),
        ({"magnitude": {"mean": 0.5, "std": 0.1, "high": 2}}, "low and high lie in 0 .. 1"),
        ({"magnitude": {"mean": 0.5, "std": 0.1, "low": 0.6, "high": 0.5}}, "the lower end comes first"),
        ({"magnitude": 0.3, "parameter": 3}, "not both"),
        ({"magnitude": 0.3, "mirrored": True}, "goes with `parameter`"),
        ({"parameter": [5, 3]}, "the lower level comes first"),
        ({"parameter": float("inf")}, "finite"),
        ({"options": {"x": 1}}, "Rotate takes no options"),
    ],
)
def test_bad_choices(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Choice.model_validate({"op": "Rotate", **fields})


# --- distinct draws and weights -------------------------------------------------------------------------


def test_distinct_draws_are_those_of_numpy_without_replacement() -> None:
    weights = {"Invert": 6.0, "Equalize": 3.0, "AutoContrast": 1.0}
    policy = Policy(
        subpolicies=tuple(SubPolicy(choices=(Choice(op=op),), weight=w) for op, w in weights.items()),
        draws=2,
        distinct=True,
    )
    pairs = Counter((a.op, b.op) for a, b in policy.draw(range(20_000), seed=1))
    total = sum(weights.values())
    for (a, b), count in pairs.items():
        expected = 20_000 * weights[a] / total * weights[b] / (total - weights[a])
        assert abs(count - expected) < 5 * math.sqrt(expected)
    assert len(pairs) == 6


def test_distinct_draws_of_all() -> None:
    policy = presets.randaugment(num_ops=14).model_copy(update={"distinct": True})
    for program in policy.draw(range(200), seed=2):
        assert sorted(step.op for step in program) == sorted(policy.ops)


def test_distinct_draws_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = presets.randaugment(num_ops=5).model_copy(update={"distinct": True})
    whole = list(policy.draw(range(30), seed=2))
    monkeypatch.setattr("augment.engine.draw._MOST_CELLS", 28)
    assert list(policy.draw(range(30), seed=2)) == whole
    assert [policy.draw([i], seed=2)[0] for i in range(30)] == whole


def test_as_many_distinct_draws_as_sub_policies() -> None:
    with pytest.raises(ValidationError, match="2 distinct draws from 1"):
        Policy(subpolicies=((Choice(op="Invert"),),), draws=2, distinct=True)
    two = Policy(subpolicies=((Choice(op="Invert"),), (Choice(op="Equalize"),)), draws=2, distinct=True)
    assert two.without("Invert").draws == 1


def test_weighted() -> None:
    policy = Policy(
        subpolicies=(
            SubPolicy(choices=(Choice(op="Rotate"), Choice(op="Invert")), weight=2),
            SubPolicy(choices=(Choice(op="Invert"),)),
            SubPolicy(choices=(Choice(op="Equalize"),)),
        )
    )
    assert [sub.weight for sub in policy.weighted({"Rotate": 3, "Invert": 0.5}).subpolicies] == [3.0, 0.5, 1.0]
    assert policy.weighted({"Invert": 0}).ops == ("Equalize",)
    assert policy.weighted({"Invert": 0, "Equalize": 0}).ops == ("Identity",)
    for bad in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match="weight of Rotate"):
            policy.weighted({"Rotate": bad})
