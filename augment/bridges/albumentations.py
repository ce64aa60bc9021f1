"""Any transform of albumentations as an op: ``albumentations.CLAHE``, with its arguments as options.

Two unpickled copies of an albumentations pipeline repeat each other's random numbers; here every row has its
own, drawn from its id, seed, epoch and place in the program. An option ``{"magnitude": [a, b]}`` goes from a to
b with the level.

albumentations 2 (MIT) is meant, not its successor under the AGPL. It calls home when it is imported; that is
switched off before.
"""

from __future__ import annotations

import inspect
import os
import random
import threading
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from augment.custom import CustomOp
from augment.ops.table import GEOMETRY, NONE, PIXELS, Range

__all__ = ["find"]

Array = npt.NDArray[Any]
_LEVEL = Range(0.0, 1.0, "at {p:.2f}")
_local = threading.local()
_making = threading.Lock()  # filters of warnings are those of the whole process


def find(name: str, transform: str, options: Mapping[str, Any]) -> CustomOp:
    """The op that carries out a transform.

    Raises:
        ValueError: albumentations is missing, or has no such transform, or it does not take such options.

    >>> find("albumentations.Blur", "Blur", {"blur_limit": [3, 3]}).targets == PIXELS
    True
    """
    module = _albumentations()
    cls = getattr(module, transform, None)
    if not (inspect.isclass(cls) and issubclass(cls, module.BasicTransform)):
        there = [
            n for n, v in vars(module).items() if inspect.isclass(v) and issubclass(v, module.BasicTransform)
        ]
        close = get_close_matches(transform, there, n=1)
        hint = f": did you mean albumentations.{close[0]}?" if close else ""
        raise ValueError(f"albumentations {module.__version__} has no transform {transform!r}{hint}")
    for option, value in options.items():
        if _is_graded(value) and not _goes_far(value["magnitude"]):
            raise ValueError(
                f"option {option!r} of albumentations.{transform}: a magnitude goes from one number to "
                f"another, [a, b], or from a list to one as long, [[a, c], [b, d]]; not {value['magnitude']!r}"
            )
    graded = any(_is_graded(value) for value in options.values())
    _made(cls, options, 1.0)  # complains about the options here and not in the middle of a run
    moves = issubclass(cls, module.DualTransform)
    return CustomOp(
        name, 0, "call", *((_LEVEL, _LEVEL) if graded else (NONE, NONE)), targets=GEOMETRY if moves else PIXELS,
        words=(inspect.getdoc(cls) or "").partition("\n")[0], function=_image(cls, options),
        mask_function=_mask(cls, options) if moves else None,
        points_function=_points(cls, options) if moves else None, options=MappingProxyType({}),
    )  # fmt: skip


@cache
def _albumentations() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        import albumentations
    except ImportError as error:
        raise ValueError(
            f"ops of albumentations need the package ({error}): install gristmill[albumentations]"
        ) from error
    return albumentations


def _is_graded(value: object) -> bool:
    return isinstance(value, Mapping) and set(value) == {"magnitude"}


def _goes_far(ends: object) -> bool:
    """Whether they are two numbers, or two lists of as many."""
    if not isinstance(ends, (list, tuple)) or len(ends) != 2:  # noqa: PLR2004  (from, to)
        return False
    low, high = (list(end) if isinstance(end, (list, tuple)) else end for end in ends)
    if isinstance(low, list) and isinstance(high, list):
        return len(low) == len(high) and all(map(_is_number, (*low, *high)))
    return _is_number(low) and _is_number(high)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _at(value: Any, level: float) -> Any:
    """An option at a level; numbers that were whole stay whole."""
    if not _is_graded(value):
        return value
    low, high = value["magnitude"]
    if isinstance(low, (list, tuple)):
        return tuple(_at({"magnitude": pair}, level) for pair in zip(low, high, strict=True))
    found = low + (high - low) * level
    return round(found) if isinstance(low, int) and isinstance(high, int) else found


def _made(cls: Any, options: Mapping[str, Any], level: float) -> Any:
    import warnings

    arguments = {
        key: tuple(found) if isinstance(found := _at(value, level), list) else found
        for key, value in options.items()
    }
    try:
        with _making, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=".*not valid for.*")  # of unknown arguments it only warns
            return cls(**arguments | {"p": 1.0})
    except Exception as error:  # whatever a constructor throws at options that it does not know
        said = " ".join(str(error).split())
        raise ValueError(f"albumentations.{cls.__name__} does not take {dict(arguments)}: {said}") from error


def _transform(cls: Any, options: Mapping[str, Any], level: float, rng: np.random.Generator) -> Any:
    """A transform with the row's random numbers; one a thread, since it keeps them in itself."""
    held: dict[tuple[Any, int, float], Any] = _local.__dict__.setdefault("held", {})
    key = (cls, id(options), level)
    if key not in held:
        if len(held) > 1000:  # noqa: PLR2004  (unbinned levels never come twice)
            held.clear()
        held[key] = (
            _made(cls, options, level),
            options,
        )  # the options stay alive, or their id could be another's
    transform = held[key][0]
    seed = rng.bit_generator.random_raw()
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311  (what it wants)
    return transform


def _image(cls: Any, options: Mapping[str, Any]) -> Callable[..., Array]:
    def image(image: Array, level: float, rng: np.random.Generator) -> Array:
        made: Array = _transform(cls, options, level, rng)(image=np.array(image))["image"]
        return made.reshape(image.shape) if made.size == image.size and made.ndim < image.ndim else made

    return image


def _mask(cls: Any, options: Mapping[str, Any]) -> Callable[..., Array]:
    def mask(mask: Array, level: float, rng: np.random.Generator) -> Array:
        blank = np.zeros((*mask.shape[:2], 3), np.uint8)
        plane = np.array(mask[..., 0] if mask.shape[2] == 1 else mask)
        made: Array = _transform(cls, options, level, rng)(image=blank, mask=plane)["mask"]
        return made.reshape(mask.shape)

    return mask


def _points(cls: Any, options: Mapping[str, Any]) -> Callable[..., Array]:
    def points(points: Array, level: float, rng: np.random.Generator, size: tuple[int, int]) -> Array:
        module = _albumentations()
        transform = _made(cls, options, level)
        form = module.KeypointParams(format="xy", remove_invisible=False)
        compose = module.Compose([transform], keypoint_params=form)
        seed = rng.bit_generator.random_raw()
        transform.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311  (what it wants)
        blank = np.zeros((*size, 3), np.uint8)
        # Its pixels have whole coordinates in their centres, ours halves.
        made: Array = np.asarray(compose(image=blank, keypoints=points - 0.5)["keypoints"], np.float64) + 0.5
        return made

    return points
