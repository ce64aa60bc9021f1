from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from augment import Policy, presets
from augment.engine import cpu
from augment.engine.programs import Programs
from augment.ops import NAMES, OPS, Applied
from augment.policy import Choice, SubPolicy
from lake.errors import DeviceError

ALONE = [name for name in NAMES if OPS[name].kind != "mix"]  # those that need no partner
FROZEN = ["ShearY +0.30", "Sharpness x0.83"]
LEVELS = st.floats(0, 1)
RANGES = st.tuples(LEVELS, LEVELS).map(lambda pair: (min(pair), max(pair)))
CHOICES = st.builds(Choice, op=st.sampled_from(ALONE), probability=LEVELS, magnitude=st.one_of(LEVELS, RANGES))
SUBPOLICIES = st.builds(
    SubPolicy, choices=st.lists(CHOICES, min_size=1, max_size=3).map(tuple), weight=st.floats(0.01, 100)
)
POLICIES = st.builds(
    Policy,
    subpolicies=st.lists(SUBPOLICIES, min_size=1, max_size=4).map(tuple),
    draws=st.integers(0, 3),
    bins=st.sampled_from([None, 2, 10, 31]),
    space=st.sampled_from(["autoaugment", "wide"]),
    resampling=st.sampled_from(["nearest", "bilinear"]),
    name=st.text(max_size=8),
)
WIDE = presets.trivial_augment_wide()


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 14, 11, 3), dtype=np.uint8)


# --- a value --------------------------------------------------------------------------------------------


@given(policy=POLICIES)
def test_json_round_trip(policy: Policy) -> None:
    again = Policy.model_validate_json(policy.model_dump_json())
    assert again == policy
    assert again.digest == policy.digest
    assert hash(again) == hash(policy)
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert Policy.model_validate(policy.model_dump(mode="json")) == policy


def test_digest_names_what_a_policy_does() -> None:
    assert WIDE.digest == "9719b297e3b84f7504c6783a4b0e5f91"
    assert WIDE.model_copy(update={"name": "mine"}).digest == WIDE.digest
    changed = [
        WIDE.model_copy(update={"draws": 2}),
        WIDE.model_copy(update={"bins": 30}),
        WIDE.model_copy(update={"space": "autoaugment"}),
        WIDE.model_copy(update={"resampling": "bilinear"}),
        WIDE.without("Rotate"),
        WIDE.with_ceilings({"Rotate": 0.5}),
    ]
    assert len({policy.digest for policy in [WIDE, *changed]}) == 7


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        WIDE.draws = 3  # type: ignore[misc]  # the point of the test


def test_ops_without_magnitude_have_one_spelling() -> None:
    assert Choice(op="Invert", magnitude=0.7) == Choice(op="Invert")
    assert Choice(op="Invert", magnitude=(0.1, 0.7)) == Choice(op="Invert")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"subpolicies": []}, "at least 1"),
        ({"subpolicies": [[]]}, "at least 1"),
        ({"subpolicies": [[{"op": "Rotat"}]]}, "did you mean 'Rotate'"),
        ({"subpolicies": [[{"op": "Rotate", "probability": 1.1}]]}, "less than or equal to 1"),
        ({"subpolicies": [[{"op": "Rotate", "magnitude": -0.1}]]}, "greater than or equal to 0"),
        ({"subpolicies": [[{"op": "Rotate", "magnitude": [0.5, 0.4]}]]}, "the lower level comes first"),
        ({"subpolicies": [[{"op": "Rotate", "magnitude": float("nan")}]]}, "finite|equal to"),
        ({"subpolicies": [{"choices": [{"op": "Rotate"}], "weight": 0}]}, "greater than 0"),
        ({"subpolicies": [[{"op": "Rotate"}] * 13]}, "at most 12"),
        ({"subpolicies": [[{"op": "Rotate"}]], "bins": 1}, "greater than or equal to 2"),
        ({"subpolicies": [[{"op": "Rotate"}]], "draws": -1}, "greater than or equal to 0"),
        ({"subpolicies": [[{"op": "Rotate"}]], "space": "narrow"}, "wide"),
        ({"subpolicies": [[{"op": "Rotate"}]], "magnitude": 3}, "Extra inputs"),
    ],
)
def test_bad_policies(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Policy.model_validate(fields)


# --- draws ----------------------------------------------------------------------------------------------


def test_frozen_draws() -> None:
    programs = WIDE.draw(["000102030405060708090a0b0c0d0e0f", "f" * 32], seed=1, epoch=2)
    assert [WIDE.describe(program) for program in programs] == FROZEN


@given(policy=POLICIES, seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 9), cut=st.integers(0, 12))
def test_draws_do_not_depend_on_the_batch(policy: Policy, seed: int, epoch: int, cut: int) -> None:
    whole = list(policy.draw(range(12), seed, epoch))
    assert list(policy.draw(range(cut), seed, epoch)) + list(policy.draw(range(cut, 12), seed, epoch)) == whole
    assert list(policy.draw([11, 3], seed, epoch)) == [whole[11], whole[3]]


def test_another_epoch_or_seed_is_another_draw() -> None:
    base = list(WIDE.draw(range(50), seed=1, epoch=1))
    for other in (WIDE.draw(range(50), seed=1, epoch=2), WIDE.draw(range(50), seed=2, epoch=1)):
        assert sum(a == b for a, b in zip(base, other, strict=True)) < 15


def test_ops_are_drawn_by_weight() -> None:
    # Chi-square with 13 degrees of freedom: 60 lies beyond its 99.9999 % point.
    counts = Counter(program[0].op for program in WIDE.draw(range(28_000), seed=5))
    assert sum((counts[op] - 2000) ** 2 / 2000 for op in WIDE.ops) < 60
    weighted = Policy(
        subpolicies=(
            SubPolicy(choices=(Choice(op="Invert"),), weight=3),
            SubPolicy(choices=(Choice(op="Equalize"),), weight=1),
        )
    )
    counts = Counter(program[0].op for program in weighted.draw(range(8_000), seed=5))
    assert abs(counts["Invert"] - 6_000) < 250


def test_the_draws_of_one_image_are_independent() -> None:
    pairs = Counter((a.op, b.op) for a, b in presets.randaugment().draw(range(19_600), seed=5))
    assert len(pairs) == 196
    # Chi-square with 195 degrees of freedom: 310 lies beyond its 99.9999 % point.
    assert sum((count - 100) ** 2 / 100 for count in pairs.values()) < 310


def test_probabilities_signs_and_levels() -> None:
    policy = Policy(subpolicies=[[Choice(op="Rotate", probability=0.25, magnitude=(0.2, 0.4))]], bins=None)
    drawn = [program[0].parameter for program in policy.draw(range(8_000), seed=2) if program]
    assert abs(len(drawn) - 2_000) < 250
    assert abs(sum(p > 0 for p in drawn) - len(drawn) / 2) < 150
    size = np.abs(drawn)
    assert size.min() >= 27 - 1e-9
    assert size.max() <= 54 + 1e-9
    assert abs(size.mean() - 40.5) < 1.5
    never = Policy(subpolicies=[[Choice(op="Rotate", probability=0.0)]])
    assert list(never.draw(range(100))) == [()] * 100


def test_no_draws_no_change() -> None:
    policy = WIDE.model_copy(update={"draws": 0})
    assert np.array_equal(policy.apply(images(3), range(3)), images(3))


def test_programs_read_like_a_sequence() -> None:
    programs = presets.randaugment().draw(range(5), seed=1)
    assert len(programs) == 5
    assert list(programs[1:3]) == list(programs)[1:3]
    again = Programs.of(list(programs))
    assert list(again) == list(programs)
    assert list(Programs.of([])) == []


# --- application ----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(policy=POLICIES, seed=st.integers(0, 99), data=st.data())
def test_the_same_bytes_in_any_batches_and_order(policy: Policy, seed: int, data: st.DataObject) -> None:
    batch = images(9, seed)
    whole = policy.apply(batch, range(9), seed=seed, epoch=3)
    for size in (1, 7):
        parts = [
            policy.apply(batch[i : i + size], range(9)[i : i + size], seed=seed, epoch=3)
            for i in range(0, 9, size)
        ]
        assert np.array_equal(np.concatenate(parts), whole)
    order = data.draw(st.permutations(range(9)))
    assert np.array_equal(policy.apply(batch[order], order, seed=seed, epoch=3), whole[order])
    as_list = pickle.loads(pickle.dumps(policy)).apply(list(batch), range(9), seed=seed, epoch=3)
    assert np.array_equal(np.stack(as_list), whole)


def test_mixed_sizes_equal_one_by_one() -> None:
    rng = np.random.default_rng(0)
    shapes = [(5, 6, 3), (7, 3, 1), (5, 6, 3), (9, 9), (1, 1, 3), (5, 6, 1)]
    batch = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    policy = presets.randaugment(num_ops=3, magnitude=20)
    together = policy.apply(batch, range(6), seed=4)
    assert isinstance(together, list)
    for i, image in enumerate(together):
        assert image.shape == shapes[i]
        assert np.array_equal(image, policy.apply(batch[i][None], [i], seed=4)[0])


def test_apply_carries_out_what_draw_says() -> None:
    batch = images(20)
    for policy in (WIDE, presets.autoaugment("cifar10")):
        programs = policy.draw(range(20), seed=1, epoch=4)
        expected = cpu.execute(batch, list(programs), space=policy.space)
        assert np.array_equal(policy.apply(batch, range(20), seed=1, epoch=4), expected)


@pytest.mark.parametrize("device", ["cuda:0", "tpu"])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(DeviceError, match=re.escape(repr(device))):
        WIDE.apply(images(1), [0], device=device)


def test_as_many_ids_as_images() -> None:
    with pytest.raises(ValueError, match="3 images but 2"):
        WIDE.apply(images(3), range(2))


# --- what a screen makes of it ---------------------------------------------------------------------------


def test_without() -> None:
    assert "Rotate" not in WIDE.without(["Rotate", "Invert"]).ops
    assert len(WIDE.without("Rotate").subpolicies) == 13
    svhn = presets.autoaugment("svhn")
    less = svhn.without(["Invert"])
    assert len(less.subpolicies) == 25
    assert len(less.subpolicies[0].choices) == 1
    assert WIDE.without(NAMES).ops == ("Identity",)
    with pytest.raises(ValueError, match="did you mean"):
        WIDE.without(["Rotat"])


def test_ceilings() -> None:
    low = WIDE.with_ceilings({"Rotate": 0.1, "Invert": 0.0, "Posterize": 0.5})
    drawn = [program[0] for program in low.draw(range(5_000), seed=1)]
    assert max(abs(s.parameter) for s in drawn if s.op == "Rotate") == pytest.approx(13.5)
    assert min(s.parameter for s in drawn if s.op == "Posterize") == 5
    assert max(abs(s.parameter) for s in drawn if s.op == "ShearX") == pytest.approx(0.99)
    assert presets.randaugment().with_ceilings({"Rotate": 0.1}).subpolicies[5].choices[0].magnitude == 0.1
    for ceiling in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="ceiling of Rotate"):
            WIDE.with_ceilings({"Rotate": ceiling})


def test_restricted() -> None:
    policy = WIDE.restricted(only=["Rotate", "Color"], ceilings={"Color": 0.5})
    assert policy.ops == ("Rotate", "Color")
    assert policy == WIDE.without(set(NAMES) - {"Rotate", "Color"}).with_ceilings({"Color": 0.5})
    assert WIDE.restricted() == WIDE


# --- in words -------------------------------------------------------------------------------------------


def test_describe() -> None:
    assert (
        WIDE.describe([Applied("Rotate", 12.4), Applied("Posterize", 5)]) == "Rotate 12.4° · Posterize 5 bits"
    )
    assert WIDE.describe([]) == "unchanged"


def test_explain() -> None:
    text = presets.autoaugment().explain().splitlines()
    assert text[0].startswith("autoaugment-imagenet: 1 of 25 sub-policies per image")
    assert text[1] == "    4.0 %  Posterize: 40 % of the time, 4 bits; then Rotate: 60 % of the time, ±30.0°"
    wide = WIDE.explain()
    for line in (
        "Identity: always",
        "TranslateX: always, 0 px to ±32 px",
        "Brightness: always, x1.00 to x0.01 or x1.99",
        "Posterize: always, 8 bits to 2 bits",
    ):
        assert line in wide


@given(policy=POLICIES)
def test_any_policy_can_be_shown(policy: Policy) -> None:
    assert len(policy.explain().splitlines()) >= 1 + len(policy.subpolicies)
    html = policy._repr_html_()
    assert html.count("<tr>") == 1 + sum(len(sub.choices) for sub in policy.subpolicies)


def test_the_table_escapes_names() -> None:
    assert "<script>" not in WIDE.model_copy(update={"name": "<script>"})._repr_html_()


# --- the package ----------------------------------------------------------------------------------------


def test_public_names() -> None:
    import augment

    assert sorted(augment.__all__) == augment.__all__ == dir(augment)
    assert augment.presets.trivial_augment_wide() == WIDE
    with pytest.raises(AttributeError, match="no attribute 'Aply'"):
        _ = augment.Aply


def test_describing_loads_nothing_heavy_and_drawing_nothing_but_numba() -> None:
    code = (
        "import sys; from augment import presets; policy = presets.autoaugment(); policy.explain();"
        "heavy = {'numba', 'pyarrow', 'deltalake', 'ray', 'PIL'};"
        "print(sorted(heavy & set(sys.modules)), end=' '); policy.draw([1]);"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] ['numba']"


def test_every_op_can_be_drawn() -> None:
    for name in ALONE:
        policy = Policy(subpolicies=[[Choice(op=name, magnitude=(0, 1))]], space="autoaugment")
        assert policy.apply(images(2), range(2)).shape == (2, 14, 11, 3)
