"""Single transforms of albumentations, and the ops that do the same.

What was compared, albumentations 2.0.8 with Pillow, on random images and a gradient: InvertImg, Posterize,
Solarize, brightness of ColorJitter, contrast alone of RandomBrightnessContrast (a product, which is Brightness
here), translations and rotations with nearest resampling: equal but for 1 pixel in 2,000 of a rotation.
Contrast and saturation of ColorJitter, AutoContrast by ``pil``, ToGray: at most 1 of 255 off. Equalize: at
most 5 off. GaussianBlur and Blur have the same sigma, not the same kernel size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from augment.interchange.errors import InterchangeError
from augment.interchange.numbers import BITS_FLOOR, tidy
from augment.ops import OPS, Space
from augment.policy.choices import Choice
from augment.policy.levels import Normal
from augment.policy.schedule import Schedule

__all__ = ["Reading", "mirrored", "read", "write"]

Transform = Mapping[str, Any]
Extent = float | tuple[float, float]
_PREFIX = "albumentations."
_PAIR = 2
_WHITE = 255


@dataclass(slots=True)
class Reading:
    """What all transforms of a pipeline must agree on, as found so far."""

    interpolations: set[int] = field(default_factory=set)
    units: set[Space] = field(default_factory=set)

    @property
    def resampling(self) -> Literal["nearest", "bilinear"]:
        """Of the policy."""
        if len(self.interpolations) > 1:
            raise InterchangeError("a policy has one resampling, but the transforms have nearest and linear")
        return "nearest" if self.interpolations == {0} else "bilinear"

    @property
    def space(self) -> Space:
        """Of the policy: translations are shares of the side in one, pixels in the other."""
        if len(self.units) > 1:
            raise InterchangeError("Affine: translations in pixels and in shares of the side in one policy")
        return next(iter(self.units), "wide")


# Ops without a parameter: the class, and the arguments with which it is that op.
_PLAIN: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "FlipX": ("HorizontalFlip", {}),
    "FlipY": ("VerticalFlip", {}),
    "Identity": ("NoOp", {}),
    "Invert": ("InvertImg", {}),
    "Equalize": ("Equalize", {"mode": "pil", "by_channels": True, "mask": None}),
    "AutoContrast": ("AutoContrast", {"method": "pil", "cutoff": 0, "ignore": None}),
    "Grey": ("ToGray", {"method": "weighted_average", "num_output_channels": 3}),
    "ChannelDrop": ("ChannelDropout", {"channel_drop_range": (1, 1), "fill": 0}),
    "ChannelShuffle": ("ChannelShuffle", {}),
    "Turn": ("RandomRotate90", {}),
}
_CLASSES = {name: op for op, (name, _) in _PLAIN.items()}
_FREE = {"Equalize": {"mode"}}  # arguments that may be otherwise: the result is close enough
# albumentations draws among all, the op among those that change something.
_SHARE = {"ChannelShuffle": 5 / 6, "Turn": 3 / 4}

_JITTER = {"Brightness": "brightness", "Contrast": "contrast", "Color": "saturation"}
_STILL: Mapping[str, Any] = {
    "rotate": (0, 0), "translate_percent": None, "translate_px": {"x": (0, 0), "y": (0, 0)},
    "scale": {"x": (1, 1), "y": (1, 1)}, "shear": {"x": (0, 0), "y": (0, 0)},
}  # fmt: skip
_FRAME = {"border_mode": 0, "fill": 0, "fill_mask": 0}


def read(transform: Transform, p: float, reading: Reading) -> Choice:
    """The choice of a transform that is carried out with probability ``p``."""
    name = str(transform["__class_fullname__"])
    said = {key: _plain(value) for key, value in transform.items() if key not in {"__class_fullname__", "p"}}
    if name in _CLASSES:
        op = _CLASSES[name]
        wanted = {k: v for k, v in _PLAIN[op][1].items() if k not in _FREE.get(op, set())}
        if all(said.get(key, value) == value for key, value in wanted.items()):
            return Choice(op=op, probability=tidy(p * _SHARE.get(op, 1.0)))
    elif (found := _READERS.get(name, _nothing)(said, reading)) is not None:
        op, extent = found
        return Choice(op=op, probability=p, parameter=_one(extent))
    return _bridged(name, p, {k: v for k, v in transform.items() if k not in {"__class_fullname__", "p"}})


def _bridged(name: str, p: float, options: dict[str, Any]) -> Choice:
    try:
        return Choice(op=f"{_PREFIX}{name}", probability=p, options=options)
    except ValueError as error:
        said = str(error).partition("\n")[2] or str(error)
        raise InterchangeError(
            f"{name}: no op here does the same, and the bridge to albumentations has none: {said.strip()}"
        ) from error


def _plain(value: Any) -> Any:
    """Lists as tuples, as JSON and YAML have only lists."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return tuple(_plain(inner) for inner in value) if isinstance(value, (list, tuple)) else value


def _one(extent: Extent) -> Extent:
    return extent[0] if isinstance(extent, tuple) and extent[0] == extent[1] else extent


def _pair(value: Any) -> tuple[float, float] | None:
    """(low, high) of numbers, else None."""
    if isinstance(value, (int, float)):
        return float(value), float(value)
    if isinstance(value, tuple) and len(value) == _PAIR and all(isinstance(v, (int, float)) for v in value):
        return tidy(value[0]), tidy(value[1])
    return None


Found = tuple[str, Extent] | None


def _nothing(_said: dict[str, Any], _reading: Reading) -> Found:
    return None


def _framed(said: dict[str, Any], reading: Reading) -> bool:
    """Whether the outside is black and the resampling one that a policy has."""
    if any(said.get(key, value) != value for key, value in _FRAME.items()):
        return False
    interpolation = said.get("interpolation", 1)
    if interpolation not in {0, 1}:
        return False
    reading.interpolations.add(int(interpolation))
    return True


def _rotate(said: dict[str, Any], reading: Reading) -> Found:
    limit = _pair(said.get("limit", (-90, 90)))
    if limit is None or said.get("crop_border") or not _framed(said, reading):
        return None
    return "Rotate", limit


def _affine(said: dict[str, Any], reading: Reading) -> Found:
    moved = {key for key, value in _STILL.items() if said.get(key, value) not in (value, None)}
    if said.get("fit_output") or len(moved) != 1:
        return None
    (part,) = moved
    found = _affine_part(part, said, reading)
    return found if found is not None and _framed(said, reading) else None


def _affine_part(part: str, said: dict[str, Any], reading: Reading) -> Found:
    value = said[part]
    if part == "rotate" and (limit := _pair(value)) is not None:
        return "Rotate", limit
    x, y = (_pair(value.get(axis)) if isinstance(value, Mapping) else None for axis in "xy")
    if x is None or y is None or part == "shear":
        return None  # a shear is about the centre there, about the corner here
    if part == "scale":
        return ("Zoom", x) if x == y and (x[0] == x[1] or said.get("keep_ratio")) else None
    sideways = not any(y)
    extent = x if sideways else y
    if (any(x) and any(y)) or (part == "translate_px" and extent[0] != extent[1]):
        return None  # a range of whole pixels is drawn evenly; ours is cut off to whole ones
    reading.units.add("wide" if part == "translate_px" else "autoaugment")
    return ("TranslateX" if sideways else "TranslateY"), extent


def _jitter(said: dict[str, Any], _reading: Reading) -> Found:
    still = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0)}
    moved = [key for key, value in still.items() if said.get(key) != value]
    for op, key in _JITTER.items():
        if moved == [key] and (extent := _pair(said[key])) is not None:
            return op, extent
    return None


def _brightness_contrast(said: dict[str, Any], _reading: Reading) -> Found:
    contrast = _pair(said.get("contrast_limit", (-0.2, 0.2)))
    if said.get("brightness_limit") != (0, 0) or contrast is None or said.get("ensure_safe_range"):
        return None
    return "Brightness", (tidy(1 + contrast[0]), tidy(1 + contrast[1]))


def _posterize(said: dict[str, Any], _reading: Reading) -> Found:
    bits = _pair(said.get("num_bits", (4, 4)))
    if bits is None:
        return None
    # Every number of bits as often as another: rounding takes half a bit from either end.
    return "Posterize", bits if bits[0] == bits[1] else (bits[0] - BITS_FLOOR, bits[1] + BITS_FLOOR)


def _solarize(said: dict[str, Any], _reading: Reading) -> Found:
    share = _pair(said.get("threshold_range", (0.5, 0.5)))
    return None if share is None else ("Solarize", (tidy(_WHITE * share[0]), tidy(_WHITE * share[1])))


def _gamma(said: dict[str, Any], _reading: Reading) -> Found:
    percent = _pair(said.get("gamma_limit", (80, 120)))
    if percent is None or not (percent[0] >= 100 or percent[0] == percent[1]):  # noqa: PLR2004  (per cent)
        return None  # below 1 ours is one over a line
    low, high = (tidy(g / 100 - 1 if g >= 100 else 1 - 100 / g) for g in percent)  # noqa: PLR2004
    return "Gamma", (low, high)


def _blur(said: dict[str, Any], _reading: Reading) -> Found:
    sigma = _pair(said.get("sigma_limit", (0.5, 3.0)))
    return None if sigma is None or said.get("blur_limit", 0) not in (0, (0, 0)) else ("Blur", sigma)


_READERS: Mapping[str, Callable[[dict[str, Any], Reading], Found]] = {
    "Rotate": _rotate,
    "Affine": _affine,
    "ColorJitter": _jitter,
    "RandomBrightnessContrast": _brightness_contrast,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "RandomGamma": _gamma,
    "GaussianBlur": _blur,
}


def mirrored(children: Sequence[Transform], p: float, reading: Reading) -> Choice | None:
    """The choice of a OneOf that offers one transform in its two directions, equally often; else None."""
    if len(children) != _PAIR or any("transforms" in child for child in children):
        return None
    names = {str(child["__class_fullname__"]).rsplit(".", maxsplit=1)[-1] for child in children}
    if len(names) != 1 or not names <= set(_READERS) or children[0].get("p", 0.5) != children[1].get("p", 0.5):
        return None
    name = names.pop()
    one, other = (read({**child, "__class_fullname__": name}, p, reading) for child in children)
    if one.op != other.op or one.options or not OPS[one.op].range("wide").signed:
        return None
    twice = 2 * OPS[one.op].range("wide").zero
    ours, theirs = _ends(one), _ends(other)
    if ours != (tidy(twice - theirs[1]), tidy(twice - theirs[0])):
        return None
    return (one if ours >= theirs else other).model_copy(update={"mirrored": True})


def _ends(choice: Choice) -> tuple[float, float]:
    value = choice.parameter
    assert isinstance(value, (float, tuple))  # noqa: S101  (`read` makes nothing else)
    return value if isinstance(value, tuple) else (value, value)


def write(choice: Choice, space: Space, resampling: str) -> dict[str, Any]:
    """The transform of a choice.

    Raises:
        InterchangeError: there is none that does the same; the message names the op.
    """
    p = choice.probability
    assert isinstance(p, float)  # noqa: S101  (the caller has refused schedules)
    if choice.op.startswith(_PREFIX):
        return {"__class_fullname__": choice.op.removeprefix(_PREFIX), "p": p, **choice.options}
    if choice.op in _PLAIN:
        name, said = _PLAIN[choice.op]
        p = tidy(p / _SHARE.get(choice.op, 1.0))
        if p > 1:
            raise InterchangeError(f"{choice.op}: {name} leaves an image alone more often than that")
        return {"__class_fullname__": name, "p": p, **said}
    frame = {**_FRAME, "interpolation": 0 if resampling == "nearest" else 1, "mask_interpolation": 0}
    ends, both = _range_of(choice, space)
    zero = OPS[choice.op].range(space).zero
    if not both or ends == (zero, zero):
        return {**_written(choice.op, ends, space, frame), "p": p}
    turned = (tidy(2 * zero - ends[1]), tidy(2 * zero - ends[0]))
    if ends[0] == zero:
        return {**_written(choice.op, (turned[0], ends[1]), space, frame), "p": p}
    kids = [{**_written(choice.op, way, space, frame), "p": 1.0} for way in (ends, turned)]
    return {"__class_fullname__": "OneOf", "p": p, "transforms": kids}


def _range_of(choice: Choice, space: Space) -> tuple[tuple[float, float], bool]:
    """The lowest and the highest parameter, and whether it is mirrored."""
    extent = choice.extent
    if isinstance(extent, (Normal, Schedule)) or choice.op not in OPS:
        raise InterchangeError(f"{choice.op}: albumentations has nothing like {extent!r}")
    span = OPS[choice.op].range(space)
    low, high = extent if isinstance(extent, tuple) else (extent, extent)
    if choice.parameter is None:
        low, high = sorted(span.zero + (span.full - span.zero) * end for end in (low, high))
        if span.whole and low == high:
            low = high = float(round(low))
    return (tidy(low), tidy(high)), choice.signed and span.signed


def _written(op: str, ends: tuple[float, float], space: Space, frame: Mapping[str, Any]) -> dict[str, Any]:
    if op in {"Rotate", "Zoom", "TranslateX", "TranslateY"}:
        return _moved(op, ends, space, frame)
    if op in _JITTER:
        still = {"brightness": (1.0, 1.0), "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": (0.0, 0.0)}
        return {"__class_fullname__": "ColorJitter", **still, _JITTER[op]: ends}
    if op == "Posterize":
        return {"__class_fullname__": "Posterize", "num_bits": _bits(ends)}
    if op == "Blur":
        return {"__class_fullname__": "GaussianBlur", "sigma_limit": ends, "blur_limit": 0}
    if op == "Solarize" and ends[1] <= _WHITE:
        share = (tidy(ends[0] / _WHITE), tidy(ends[1] / _WHITE))
        return {"__class_fullname__": "Solarize", "threshold_range": share}
    if op == "Gamma" and (ends[0] >= 0 or ends[0] == ends[1]):
        percent = tuple(tidy(100 * (1 + end if end >= 0 else 1 / (1 - end))) for end in ends)
        return {"__class_fullname__": "RandomGamma", "gamma_limit": percent}
    raise InterchangeError(
        f"{op} from {ends[0]:g} to {ends[1]:g}: albumentations has nothing that does the same"
    )


def _moved(op: str, ends: tuple[float, float], space: Space, frame: Mapping[str, Any]) -> dict[str, Any]:
    if op == "Rotate":
        return {"__class_fullname__": "Rotate", "limit": ends, **frame}
    if op == "Zoom":
        scale = {"x": ends, "y": ends}
        return {"__class_fullname__": "Affine", "scale": scale, "keep_ratio": True, **frame}
    if space == "wide" and (ends[0] != ends[1] or ends[0] % 1):
        raise InterchangeError(f"{op}: a range of pixels is drawn otherwise in albumentations")
    key = "translate_px" if space == "wide" else "translate_percent"
    way = tuple(int(end) for end in ends) if space == "wide" else ends
    moved = {"x": way, "y": (0, 0)} if op == "TranslateX" else {"x": (0, 0), "y": way}
    return {"__class_fullname__": "Affine", key: moved, **frame}


def _bits(ends: tuple[float, float]) -> tuple[int, int]:
    low, high = (ends[0] + BITS_FLOOR, ends[1] - BITS_FLOOR) if ends[0] != ends[1] else ends
    made = (round(low), round(high))
    if abs(made[0] - low) > 1e-9 or abs(made[1] - high) > 1e-9 or not 1 <= made[0] <= made[1] <= 7:  # noqa: PLR2004
        raise InterchangeError(
            f"Posterize from {ends[0]:g} to {ends[1]:g} bits: albumentations takes whole 1 .. 7"
        )
    return made
