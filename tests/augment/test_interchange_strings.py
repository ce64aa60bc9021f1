from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment import Apply, Learned, Policy, interchange, presets
from augment.interchange import InterchangeError, InterchangeWarning, dump, load
from augment.interchange.numbers import difference
from augment.ops import OPS
from augment.policy.choices import Choice, SubPolicy
from augment.policy.levels import Normal
from augment.policy.schedule import Schedule

pytestmark = pytest.mark.filterwarnings("ignore::augment.interchange.InterchangeWarning")

# What timm 1.0.31's level functions gave (timm.data.auto_augment.rand_augment_transform), signs all positive.
TIMM = {
    "rand-m9": {
        "Rotate": 27.0, "Posterize": 3, "Solarize": 230, "SolarizeAdd": 99, "Color": 1.72, "Contrast": 1.72,
        "Brightness": 1.72, "Sharpness": 1.72, "ShearX": 0.27, "ShearY": 0.27, "TranslateX": 0.405,
        "TranslateY": 0.405,
    },
    "rand-m9-inc1": {
        "Rotate": 27.0, "Posterize": 1, "Solarize": 26, "SolarizeAdd": 99, "Color": 1.81, "Contrast": 1.81,
        "Brightness": 1.81, "Sharpness": 1.81, "ShearX": 0.27, "ShearY": 0.27, "TranslateX": 0.405,
        "TranslateY": 0.405,
    },
    "rand-m3": {
        "Rotate": 9.0, "Posterize": 1, "Solarize": 76, "SolarizeAdd": 33, "Color": 0.64, "Contrast": 0.64,
        "Brightness": 0.64, "Sharpness": 0.64, "ShearX": 0.09, "ShearY": 0.09, "TranslateX": 0.135,
        "TranslateY": 0.135,
    },
    "rand-m3-inc1": {
        "Rotate": 9.0, "Posterize": 3, "Solarize": 180, "SolarizeAdd": 33, "Color": 1.27, "Contrast": 1.27,
        "Brightness": 1.27, "Sharpness": 1.27, "ShearX": 0.09, "ShearY": 0.09, "TranslateX": 0.135,
        "TranslateY": 0.135,
    },
    "rand-m15-mmax20": {
        "Rotate": 45.0, "Posterize": 6, "Solarize": 256, "SolarizeAdd": 128, "Color": 2.8, "Contrast": 2.8,
        "Brightness": 2.8, "Sharpness": 2.8, "ShearX": 0.45, "ShearY": 0.45, "TranslateX": 0.675,
        "TranslateY": 0.675,
    },
}  # fmt: skip


def parameter(choice: Choice, policy: Policy, sign: float = 1.0) -> float:
    level, *_ = choice.law(policy.space)
    return float(OPS[choice.op].range(policy.space).parameter(level, sign if choice.signed else 1.0))


def parameters(policy: Policy) -> dict[str, float]:
    choices = [choice for sub in policy.subpolicies for choice in sub.choices]
    return {choice.op: parameter(choice, policy) for choice in choices if OPS[choice.op].has_magnitude}


# --- timm -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TIMM)
def test_the_parameters_are_timms(text: str) -> None:
    policy = load(text)
    made = parameters(policy)
    assert made == pytest.approx(TIMM[text], abs=1e-12)
    assert all(sub.choices[0].probability == 0.5 for sub in policy.subpolicies)
    assert policy.draws == 2
    assert not policy.distinct


def test_which_ops_timm_mirrors() -> None:
    def mirrored(text: str) -> set[str]:
        policy = load(text)
        choices = [sub.choices[0] for sub in policy.subpolicies]
        return {c.op for c in choices if parameter(c, policy) != parameter(c, policy, -1.0)}

    moved = {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"}
    assert mirrored("rand-m9") == moved
    assert mirrored("rand-m9-inc1") == moved | {"Color", "Contrast", "Brightness", "Sharpness"}


def test_noise_about_a_magnitude() -> None:
    choices = {sub.choices[0].op: sub.choices[0] for sub in load("rand-m9-mstd0.5").subpolicies}
    assert choices["Rotate"].magnitude == Normal(mean=0.9, std=0.05)
    assert choices["Color"].parameter == Normal(mean=1.72, std=0.09, low=0.1, high=1.9)
    assert choices["SolarizeAdd"].parameter == Normal(
        mean=98.500000953674, std=5.5, low=-0.499999046326, high=109.500000953674
    )
    # timm: int(0.4 m) bits of m = 9 + 0.5 z, cut to 0 .. 10, at z = -4, 0, 2.
    posterize = choices["Posterize"].parameter
    assert isinstance(posterize, Normal)
    bits = [
        round(min(max(posterize.mean + posterize.std * z, posterize.low), posterize.high)) for z in (-4, 0, 2)
    ]
    assert bits == [2, 3, 4]


def test_mstd_beyond_100_is_uniform() -> None:
    choices = {sub.choices[0].op: sub.choices[0] for sub in load("rand-m7-mstd101").subpolicies}
    assert choices["Rotate"].magnitude == (0.0, 0.7)
    assert choices["Color"].parameter == (0.1, 1.36)


def test_weighted_sets_are_drawn_without_replacement() -> None:
    # timm 1.0.31: rand_augment_choices("weights"), ("3aw"); numpy.random.choice(..., replace=False).
    weights = {sub.choices[0].op: sub.weight for sub in load("rand-m9-tweights").subpolicies}
    assert weights["Rotate"] == 3
    assert weights["Posterize"] == weights["Invert"] == 0.05
    assert len(weights) == 15
    policy = load("rand-m9-n4-t3aw")
    assert (policy.distinct, policy.draws, len(policy.subpolicies)) == (True, 4, 14)
    blur = next(sub.choices[0] for sub in policy.subpolicies if sub.choices[0].op == "Blur")
    assert blur.parameter == 1.81  # radius
    grey = [sub.choices[0] for sub in load("rand-m9-t3a").subpolicies if sub.choices[0].op == "Color"]
    assert [c.parameter for c in grey] == [0.05]  # desaturated by 0.95
    old = load("rand-m9-w0")
    assert old.distinct
    assert not {"Posterize", "Invert"} & set(old.ops)


def test_the_published_policies() -> None:
    # timm 1.0.31: auto_augment_policy_original, _v0, _3a, level functions at these magnitudes.
    original = load("original")
    assert len(original.subpolicies) == 25
    first, second = original.subpolicies[0].choices
    assert (first.op, first.probability, first.parameter) == ("Posterize", 0.4, 7)
    assert (second.op, second.probability, parameter(second, original)) == ("Rotate", 0.6, pytest.approx(27.0))
    assert original.subpolicies[10].choices[1] == Choice(op="Color", probability=0.4, parameter=0.1)
    assert load("originalr").subpolicies[0].choices[0].parameter == 1
    v0 = load("v0-mstd0.5")
    assert v0.subpolicies[6].choices[1].op == "SolarizeAdd"
    assert parameter(load("v0").subpolicies[15].choices[1], load("v0")) == pytest.approx(0.405)
    three = load("3a")
    assert [sub.choices[0].op for sub in three.subpolicies] == ["Solarize", "Color", "Blur"]
    assert [sub.choices[0].parameter for sub in three.subpolicies] == [128, 0.0, (0.1, 2.0)]


@pytest.mark.filterwarnings("error::augment.interchange.InterchangeWarning")
@pytest.mark.parametrize(
    "text", ["rand-m10-inc1", "rand-m9-mstd0.5-inc1", "rand-m0", "rand-m5-mstd101", "v0r-mstd9"]
)
def test_no_bits_is_said(text: str) -> None:
    with pytest.warns(InterchangeWarning, match="Posterize to 0 bits.*1 bit is kept"):
        load(text)


@pytest.mark.filterwarnings("error::augment.interchange.InterchangeWarning")
@pytest.mark.parametrize("text", ["rand-m9", "rand-m9-mstd0.5", "rand-m5-mstd0.5-inc1", "original", "3a"])
def test_nothing_to_say(text: str) -> None:
    load(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rand-m9-x5", "'x5' is not a section"),
        ("rand-m9.5", "'m9.5' is not a section"),
        ("rand-9", "'9' is not letters followed by a number"),
        ("rand-m9-w1", "'w1' is not a section"),
        ("rand-p2", "'p2' is not a section"),
        ("rand-n20-tweights", "20 different ops of 15"),
        ("rand-m15-mmax20-inc1", "ColorIncreasing above magnitude 10"),
        ("rand-m15-mmax10-mstd101", "uniform up to 15, but cut at 10"),
        ("augmix-m5-w4", "AugMix blends several chains"),
        ("original-m9", "takes mstd only"),
        ("3a-mstd0.5", "GaussianBlurRand"),
        ("augmix", "AugMix blends several chains"),
        ("augmix(severity=3)", "blends several chains"),
    ],
)
def test_what_has_no_policy(text: str, message: str) -> None:
    with pytest.raises(InterchangeError, match=message):
        load(text)


STRINGS = st.one_of(
    st.builds(
        "rand-m{}-n{}{}{}{}".format,
        st.integers(0, 10),
        st.integers(1, 5),
        st.sampled_from(["", "-p0.3"]),
        st.sampled_from(["", "-mstd0.5", "-mstd1", "-mstd101"]),
        st.sampled_from(["", "-inc1", "-tweights", "-t3a", "-t3aw", "-w0"]),
    ).filter(lambda text: not ("-t3a" in text and "-n5" in text)),
    st.builds(
        "{}{}".format,
        st.sampled_from(["v0", "v0r", "original", "originalr"]),
        st.sampled_from(["", "-mstd0.5"]),
    ),
)


@settings(deadline=None, max_examples=60)
@given(text=STRINGS)
def test_timm_round_trip(text: str) -> None:
    policy = load(text)
    assert load(dump(policy, "timm"), "timm") == policy
    unnamed = policy.model_copy(update={"name": "mine"})
    assert difference(load(dump(unnamed, "timm"), "timm"), unnamed) == ""


def test_no_timm_string() -> None:
    with pytest.raises(InterchangeError, match=r"no string.*resampling is 'nearest'"):
        dump(load("ra"), "timm")
    changed = load("rand-m9").without("Rotate")
    with pytest.raises(InterchangeError, match="14 sub-policies, not 15"):
        dump(changed, "timm")


# --- torchvision ----------------------------------------------------------------------------------------


def test_torchvisions_magnitudes() -> None:
    # torchvision 0.29.1: RandAugment()._augmentation_space(31, (100, 200))[op][0][9].
    policy = load("ra")
    assert (policy.draws, policy.bins, policy.space) == (2, 31, "autoaugment")
    made = parameters(policy)
    assert made == pytest.approx(
        {
            "ShearX": 0.09, "ShearY": 0.09, "TranslateX": 27.1903 / 200, "TranslateY": 13.5952 / 100,
            "Rotate": 9.0, "Brightness": 1.27, "Color": 1.27, "Contrast": 1.27, "Sharpness": 1.27,
            "Posterize": 7, "Solarize": 178.5,
        },
        abs=1e-5,
    )  # fmt: skip
    solarize = load("autoaugment(imagenet)").subpolicies[1].choices[0]
    assert solarize.parameter == pytest.approx(113.333333, abs=1e-6)
    assert difference(load("ta_wide"), presets.trivial_augment_wide()) == ""


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("RA", "ra"),
        ("RandAugment(3, 7)", "ra(num_ops=3, magnitude=7)"),
        ("TrivialAugmentWide", "ta_wide"),
        ("trivialaugment(interpolation=InterpolationMode.BILINEAR)", "ta_wide(interpolation=bilinear)"),
        ("AutoAugment(AutoAugmentPolicy.SVHN)", "autoaugment(svhn)"),
        ("aa", "autoaugment(policy='imagenet')"),
    ],
)
def test_ways_to_say_it(text: str, same: str) -> None:
    assert difference(load(text), load(same)) == ""
    assert difference(load(dump(load(text), "torchvision")), load(text)) == ""


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 4), m=st.integers(0, 30), name=st.sampled_from(["", "mine"]))
def test_torchvision_round_trip(n: int, m: int, name: str) -> None:
    policy = load(f"ra({n}, {m})").model_copy(update={"name": name})
    assert difference(load(dump(policy, "torchvision"), "torchvision"), policy) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ra(ops=3)", "'ops=3' is none of"),
        ("ra(magnitude=40)", "the magnitude lies in"),
        ("ra(2, 0, 1)", "two bins or more"),
        ("autoaugment(mnist)", "policies for imagenet"),
        ("ta_wide(interpolation=bicubic)", "nearest or bilinear"),
        ("ra(magnitude=x)", "not supported"),
    ],
)
def test_bad_torchvision_strings(text: str, message: str) -> None:
    with pytest.raises(InterchangeError, match=message):
        load(text)


# --- where they stand -----------------------------------------------------------------------------------


def test_steps_take_strings() -> None:
    assert Apply(policy="rand-m9-n2-mstd0.5").resolved.draws == 2
    assert Learned(base="ta_wide").base_policy.draws == 1
    assert presets.preset("autoaugment_svhn") == presets.autoaugment("svhn")
    with pytest.raises(ValueError, match="'x5' is not a section"):
        Apply(policy="rand-m9-x5")
    with pytest.raises(ValueError, match="did you mean 'trivial_augment_wide'"):
        Apply(policy="trivialaugment_wide")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("orginal", "did you mean 'original'"),
        ("xyzzy", "no policy: there are"),
        (7, "a int is no policy"),
        ([], "a list is no policy"),
        ("{not: [closed", "neither JSON nor a Python literal nor YAML"),
    ],
)
def test_no_policy_at_all(source: object, message: str) -> None:
    with pytest.raises(InterchangeError, match=message):
        load(source)


def test_formats_are_checked() -> None:
    policy = presets.trivial_augment_wide()
    with pytest.raises(InterchangeError, match="no format is called 'xml'"):
        load("ra", "xml")  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(InterchangeError, match="no format is called 'xml'"):
        dump(policy, "xml")  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(InterchangeError, match="a string is no policy in the format 'fast'"):
        load("ra", "fast")
    with pytest.raises(InterchangeError, match="read, not written"):
        dump(policy, "pba")
    assert load(policy) is policy


def test_our_own_json() -> None:
    policy = Policy(
        subpolicies=(
            SubPolicy(choices=(Choice(op="Rotate", magnitude=Schedule.ramp(0, 1, over=9)),), weight=3),
            SubPolicy(choices=(Choice(op="Color", parameter=Normal(mean=1, std=0.1)),)),
        ),
        until=90,
        name="mine",
    )
    assert load(dump(policy, "gristmill")) == policy
    assert load(policy.model_dump_json()) == policy


def test_public_names() -> None:
    assert sorted(interchange.__all__) == sorted(set(interchange.__all__))
    assert all(hasattr(interchange, name) for name in interchange.__all__)
