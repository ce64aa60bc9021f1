from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from augment import Policy, presets
from augment.interchange import InterchangeError, dump, load
from augment.interchange.numbers import difference
from augment.ops import OPS, find
from augment.ops.table import Op
from augment.policy.choices import Choice, SubPolicy
from augment.policy.levels import Normal
from augment.policy.schedule import Schedule

# As albumentations 2.0.8 writes them (A.to_dict); lists where JSON and YAML have lists.
FRAME = {"border_mode": 0, "fill": 0.0, "fill_mask": 0.0, "interpolation": 1, "mask_interpolation": 0}
AFFINE = {
    "__class_fullname__": "Affine", "p": 0.5, "balanced_scale": False, **FRAME, "fit_output": False,
    "keep_ratio": False, "rotate": [0.0, 0.0], "rotate_method": "largest_box",
    "scale": {"x": [1.0, 1.0], "y": [1.0, 1.0]}, "shear": {"x": [0.0, 0.0], "y": [0.0, 0.0]},
    "translate_percent": None, "translate_px": {"x": [0, 0], "y": [0, 0]},
}  # fmt: skip
JITTER = {"brightness": [1.0, 1.0], "contrast": [1.0, 1.0], "saturation": [1.0, 1.0], "hue": [0.0, 0.0]}
FLIP = {"__class_fullname__": "HorizontalFlip", "p": 0.5}
INVERT = {"__class_fullname__": "InvertImg", "p": 0.4}
NOTHING = {"__class_fullname__": "NoOp", "p": 0.2}
ROTATE = {"__class_fullname__": "Rotate", "p": 0.5, **FRAME, "crop_border": False, "limit": [-30.0, 30.0],
          "rotate_method": "largest_box"}  # fmt: skip


def transform(name: str, p: float = 0.5, **arguments: object) -> dict[str, Any]:
    return {"__class_fullname__": name, "p": p, **arguments}


def several(name: str, *transforms: dict[str, Any], p: float = 1.0, **arguments: object) -> dict[str, Any]:
    return {"__class_fullname__": name, "p": p, "transforms": list(transforms), **arguments}


def compose(*transforms: dict[str, Any]) -> dict[str, Any]:
    said = {"bbox_params": None, "keypoint_params": None, "additional_targets": {}, "is_check_shapes": True}
    return {"__version__": "2.0.8", "transform": several("Compose", *transforms, **said)}


def loaded(*transforms: dict[str, Any]) -> dict[tuple[tuple[str, float], ...], float]:
    """What can come about, and how often."""
    policy = load(compose(*transforms))
    total = sum(sub.weight for sub in policy.subpolicies)
    return {tuple((c.op, c.probability) for c in sub.choices): sub.weight / total for sub in policy.subpolicies}


def only(item: dict[str, Any]) -> Choice:
    (choice,) = load(compose(item)).subpolicies[0].choices
    return choice


# --- single transforms ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "op", "parameter"),
    [
        (FLIP, "FlipX", None),
        (transform("VerticalFlip"), "FlipY", None),
        (transform("NoOp"), "Identity", None),
        (transform("InvertImg"), "Invert", None),
        (transform("Equalize", by_channels=True, mask=None, mode="cv"), "Equalize", None),
        (transform("AutoContrast", cutoff=0.0, ignore=None, method="pil"), "AutoContrast", None),
        (transform("ToGray", method="weighted_average", num_output_channels=3), "Grey", None),
        (transform("ChannelDropout", channel_drop_range=[1, 1], fill=0.0), "ChannelDrop", None),
        (ROTATE, "Rotate", (-30.0, 30.0)),
        ({**ROTATE, "limit": [10.0, 10.0]}, "Rotate", 10.0),
        ({**AFFINE, "rotate": [-10.0, 20.0]}, "Rotate", (-10.0, 20.0)),
        ({**AFFINE, "scale": {"x": [0.8, 1.2], "y": [0.8, 1.2]}, "keep_ratio": True}, "Zoom", (0.8, 1.2)),
        ({**AFFINE, "translate_px": None, "translate_percent": {"x": [-0.1, 0.1], "y": [0.0, 0.0]}},
         "TranslateX", (-0.1, 0.1)),
        ({**AFFINE, "translate_px": {"x": [0, 0], "y": [5, 5]}}, "TranslateY", 5.0),
        (transform("ColorJitter", **{**JITTER, "brightness": [0.8, 1.2]}), "Brightness", (0.8, 1.2)),
        (transform("ColorJitter", **{**JITTER, "saturation": [0.0, 2.0]}), "Color", (0.0, 2.0)),
        (transform("RandomBrightnessContrast", brightness_by_max=True, brightness_limit=[0.0, 0.0],
                   contrast_limit=[-0.2, 0.2], ensure_safe_range=False), "Brightness", (0.8, 1.2)),
        (transform("Posterize", num_bits=[4, 4]), "Posterize", 4.0),
        (transform("Solarize", threshold_range=[0.2, 0.6]), "Solarize", (51.0, 153.0)),
        (transform("RandomGamma", gamma_limit=[100.0, 150.0]), "Gamma", (0.0, 0.5)),
        (transform("GaussianBlur", blur_limit=[0, 0], sigma_limit=[0.5, 3.0]), "Blur", (0.5, 3.0)),
    ],
)  # fmt: skip
def test_transforms_that_are_ops(item: dict[str, Any], op: str, parameter: object) -> None:
    choice = only(item)
    assert (choice.op, choice.probability, choice.parameter) == (op, 0.5, parameter)
    assert not choice.mirrored


def test_bits_are_drawn_evenly() -> None:
    policy = load(compose(transform("Posterize", 1.0, num_bits=[4, 6])))
    level, high, *_ = policy.subpolicies[0].choices[0].law("wide")
    span = OPS["Posterize"].range("wide")
    shares = [i / 3000 + 1 / 6000 for i in range(3000)]
    bits = [int(span.parameter(level + (high - level) * share)) for share in shares]
    assert [bits.count(b) for b in (4, 5, 6)] == [1000, 1000, 1000]


def test_what_leaves_images_alone_by_itself() -> None:
    assert only(transform("RandomRotate90", 1.0)) == Choice(op="Turn", probability=0.75)
    assert only(transform("ChannelShuffle", 0.6)).probability == pytest.approx(0.5)


BRIDGED = [
    transform("CLAHE", clip_limit=[1.0, 4.0], tile_grid_size=[8, 8]),
    transform("AutoContrast", cutoff=0.0, ignore=None, method="cdf"),
    transform(
        "ColorJitter", brightness=[0.8, 1.2], contrast=[0.8, 1.2], saturation=[0.8, 1.2], hue=[-0.5, 0.5]
    ),
    transform("RandomBrightnessContrast", brightness_limit=[-0.2, 0.2], contrast_limit=[-0.2, 0.2]),
    transform("RandomGamma", gamma_limit=[80.0, 120.0]),
    {**ROTATE, "border_mode": 4},
    {**ROTATE, "interpolation": 2},
    {**AFFINE, "shear": {"x": [-10.0, 10.0], "y": [0.0, 0.0]}},
    {**AFFINE, "scale": {"x": [0.8, 1.2], "y": [0.8, 1.2]}},
    {**AFFINE, "rotate": [-10.0, 10.0], "scale": {"x": [1.1, 1.1], "y": [1.1, 1.1]}},
    {**AFFINE, "translate_px": {"x": [-5, 5], "y": [0, 0]}},
]


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any transform of albumentations is an op."""

    def found(name: str) -> Op:
        return Op(name, 9_999, "call", run="x:y") if name.startswith("albumentations.") else find(name)

    monkeypatch.setattr("augment.policy.choices.find", found)


@pytest.mark.usefixtures("bridge")
@pytest.mark.parametrize("item", BRIDGED)
def test_other_transforms_go_over_the_bridge(item: dict[str, Any]) -> None:
    choice = only(item)
    assert choice.op == f"albumentations.{item['__class_fullname__']}"
    assert choice.probability == 0.5
    assert choice.options == {k: v for k, v in item.items() if k not in {"__class_fullname__", "p"}}
    policy = load(compose(item, FLIP))
    assert load(dump(policy, "albumentations")) == policy
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
    assert hash(choice) == hash(only(item))


def test_without_the_bridge() -> None:
    with pytest.raises(InterchangeError, match="NoSuch: no op here does the same, and the bridge"):
        load(compose(transform("NoSuch", clip_limit=4.0)))


# --- compositions ---------------------------------------------------------------------------------------


def test_one_after_the_other() -> None:
    assert loaded(FLIP, INVERT) == {(("FlipX", 0.5), ("Invert", 0.4)): 1.0}
    assert loaded(several("Sequential", FLIP, INVERT)) == loaded(FLIP, INVERT)


def test_one_of() -> None:
    # OneOf: with p; the transform by its p as a weight, and then for certain.
    assert loaded(several("OneOf", INVERT, NOTHING, p=0.6), FLIP) == pytest.approx(
        {
            (("Invert", 1.0), ("FlipX", 0.5)): 0.4,
            (("Identity", 1.0), ("FlipX", 0.5)): 0.2,
            (("FlipX", 0.5),): 0.4,
        }
    )


def test_some_of() -> None:
    # SomeOf: n of them in their order, each with its own p; the whole with p.
    three = (FLIP, INVERT, transform("VerticalFlip", 1.0))
    f, i, v = ("FlipX", 0.5), ("Invert", 0.4), ("FlipY", 1.0)
    assert loaded(several("SomeOf", *three, n=2, replace=False)) == pytest.approx(
        {(f, i): 1 / 3, (f, v): 1 / 3, (i, v): 1 / 3}
    )
    assert loaded(several("SomeOf", *three[:2], n=2, replace=True, p=0.5)) == pytest.approx(
        {(f, f): 0.125, (f, i): 0.25, (i, i): 0.125, (("Identity", 1.0),): 0.5}
    )
    assert loaded(several("SomeOf", *three[:2], n=5, replace=False)) == {(f, i): 1.0}


def test_one_or_the_other_and_random_order() -> None:
    f, i = ("FlipX", 0.5), ("Invert", 0.4)
    assert loaded(several("OneOrOther", FLIP, INVERT, p=0.3)) == pytest.approx(
        {(("FlipX", 1.0),): 0.3, (("Invert", 1.0),): 0.7}
    )
    assert loaded(several("RandomOrder", FLIP, INVERT, n=2, replace=False), NOTHING) == pytest.approx(
        {(f, i, ("Identity", 0.2)): 0.5, (i, f, ("Identity", 0.2)): 0.5}
    )


def test_random_order_alone_is_several_draws() -> None:
    policy = load(compose(several("RandomOrder", FLIP, INVERT, NOTHING, n=2, replace=True)))
    assert (policy.draws, policy.distinct, len(policy.subpolicies)) == (2, False, 3)
    policy = load(
        compose(several("RandomOrder", FLIP, several("Sequential", INVERT, FLIP), n=5, replace=False))
    )
    assert (policy.draws, policy.distinct, len(policy.subpolicies[1].choices)) == (2, True, 2)


def test_one_of_two_directions_is_a_mirrored_choice() -> None:
    ways = ({**ROTATE, "limit": [27.0, 27.0]}, {**ROTATE, "limit": [-27.0, -27.0]})
    assert only(several("OneOf", *ways, p=0.5)) == Choice(
        op="Rotate", probability=0.5, parameter=27, mirrored=True
    )
    assert only(several("OneOf", *reversed(ways), p=0.5)).parameter == 27
    jitter = [transform("ColorJitter", **{**JITTER, "contrast": [f, f]}) for f in (0.4, 1.6)]
    assert only(several("OneOf", *jitter, p=1.0)) == Choice(op="Contrast", parameter=1.6, mirrored=True)


def test_json_and_yaml() -> None:
    data = compose(ROTATE, several("OneOf", INVERT, NOTHING))
    policy = load(data)
    assert load(json.dumps(data)) == policy
    assert load(yaml.safe_dump(data)) == policy
    assert load(data["transform"]) == policy
    assert policy.resampling == "bilinear"
    assert load(compose({**ROTATE, "interpolation": 0})).resampling == "nearest"
    assert load(compose({**AFFINE, "translate_px": {"x": [0, 0], "y": [5, 5]}})).space == "wide"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"x": 1}, "has a `transform`"),
        (compose(), "Compose without transforms"),
        (compose({"p": 1}), "no `__class_fullname__`"),
        (compose(several("SelectiveChannelTransform", FLIP)), "SelectiveChannelTransform: a policy"),
        (compose({**FLIP, "p": 3}), "HorizontalFlip: p is 3"),
        (compose(several("OneOf", {**FLIP, "p": 0}, {**INVERT, "p": 0})), "all of its transforms have p=0"),
        (compose(*[several("OneOf", FLIP, INVERT)] * 11), "too many for a policy"),
        (compose(several("RandomOrder", *[FLIP] * 9, n=9), FLIP), "too many for a policy"),
        (compose(ROTATE, {**ROTATE, "interpolation": 0}), "one resampling"),
        (compose({**AFFINE, "translate_px": {"x": [0, 0], "y": [5, 5]}},
                 {**AFFINE, "translate_px": None, "translate_percent": {"x": [-0.1, 0.1], "y": [0.0, 0.0]}}),
         "pixels and in shares"),
    ],
)  # fmt: skip
def test_what_has_no_policy(data: object, message: str) -> None:
    with pytest.raises(InterchangeError, match=message):
        load(data, "albumentations")


# --- and back -------------------------------------------------------------------------------------------

TENTHS = st.integers(1, 10).map(lambda n: n / 10)
PLAIN_OPS = st.sampled_from(
    ["FlipX", "FlipY", "Identity", "Invert", "Equalize", "AutoContrast", "Grey", "ChannelDrop"]
)
RANGES = st.tuples(TENTHS, TENTHS).map(lambda pair: (min(pair), max(pair)))
SAYABLE = st.one_of(
    st.builds(Choice, op=PLAIN_OPS, probability=TENTHS),
    st.builds(
        Choice, op=st.sampled_from(["Rotate", "Brightness", "Contrast", "Color", "Zoom", "TranslateX", "Blur"]),
        probability=TENTHS, magnitude=st.one_of(TENTHS, RANGES, TENTHS.map(lambda high: (0.0, high))),
    ),
    st.builds(Choice, op=st.just("Rotate"), probability=TENTHS, parameter=st.one_of(TENTHS, RANGES)),
    st.builds(Choice, op=st.just("Posterize"), parameter=st.integers(1, 7)),
    st.builds(Choice, op=st.just("Solarize"), parameter=st.one_of(st.integers(0, 255), RANGES)),
    st.builds(Choice, op=st.just("Gamma"), parameter=st.one_of(TENTHS, RANGES, TENTHS.map(lambda p: -p))),
)  # fmt: skip
POLICIES = st.builds(
    Policy,
    subpolicies=st.lists(st.lists(SAYABLE, min_size=1, max_size=3).map(tuple), min_size=2, max_size=4),
    draws=st.integers(1, 2),
    distinct=st.booleans(),
    bins=st.none(),
    space=st.just("autoaugment"),
    resampling=st.sampled_from(["nearest", "bilinear"]),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(policy=POLICIES, weights=st.lists(st.integers(1, 9), min_size=4, max_size=4))
def test_round_trip(policy: Policy, weights: list[int]) -> None:
    if policy.draws == 1:
        subs = tuple(
            SubPolicy(choices=sub.choices, weight=w)
            for sub, w in zip(policy.subpolicies, weights, strict=False)
        )
        policy = policy.model_copy(update={"subpolicies": subs})
    made = dump(policy, "albumentations")
    json.dumps(made)
    again = load(made, "albumentations")
    assert difference(again, policy) == ""
    assert load(dump(again, "albumentations")) == again  # what came from there is the very same afterwards


def one(choice: Choice) -> Policy:
    return Policy(subpolicies=((choice,),), bins=None)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (presets.trivial_augment_wide(), "31 bins"),
        (presets.randaugment(), "ShearX from"),
        (Policy(subpolicies=((Choice(op="Sharpness", magnitude=0.3),),)), "Sharpness from"),
        (one(Choice(op="TranslateX", magnitude=(0, 1))), "TranslateX: a range of pixels"),
        (one(Choice(op="Posterize", magnitude=(0, 1))), "Posterize from 2 to 8 bits"),
        (one(Choice(op="Rotate", magnitude=Normal(mean=0.5, std=0.1))), "Rotate: .* nothing like Normal"),
        (one(Choice(op="Rotate", magnitude=Schedule.ramp(0, 1, over=2))), "no schedules"),
        (Policy(subpolicies=((Choice(op="Invert"),),), draws=0), "draws of 0"),
        (Policy(subpolicies=((Choice(op="Turn"),),)), "Turn: RandomRotate90 leaves an image alone"),
        (presets.randaugment().restricted(only=["Rotate", "Color"]).weighted({"Rotate": 2}), "equal weights"),
    ],
)  # fmt: skip
def test_what_albumentations_cannot_say(policy: Policy, message: str) -> None:
    with pytest.raises(InterchangeError, match=message):
        dump(policy, "albumentations")


@settings(deadline=None, max_examples=30)
@given(policy=POLICIES)
def test_albumentations_reads_what_is_written(policy: Policy) -> None:
    albumentations = pytest.importorskip("albumentations")
    made = dump(policy, "albumentations")
    pipeline = albumentations.from_dict(made)
    assert difference(load(albumentations.to_dict(pipeline)), policy) == ""
