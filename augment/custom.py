"""Ops of your own, and those of albumentations, by their import path.

>>> import numpy as np
>>> @op(magnitude=(0, 40), words="{p:.0f} rows")
... def venetian(image, parameter, rng):
...     out = image.copy()
...     out[rng.permutation(len(image))[: round(parameter)]] = 0
...     return out
>>> from augment import Policy
>>> policy = Policy(subpolicies=[[{"op": venetian.name, "magnitude": 0.1}]])
>>> made = policy.apply(np.ones((2, 16, 16, 3), np.uint8), ids=[1, 2], seed=3)
>>> [int((image.sum(axis=(1, 2)) == 0).sum()) for image in made]
[4, 4]

An op is found in a module that has been imported already (a configuration names it under ``plugins:``); nothing
is imported because a policy says so. Its name may carry options, as JSON behind the path.
"""

from __future__ import annotations

import inspect
import json
import math
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from augment import rng as streams
from augment.ops.table import GEOMETRY, NONE, PIXELS, Array, Op, Range

__all__ = ["CODES", "CustomOp", "by_code", "find", "op", "spell", "split", "trust"]

F64 = npt.NDArray[np.float64]
U32 = npt.NDArray[np.uint32]
Function = Callable[..., Array]

CODES = 10_000
"""Custom ops have codes from here on, given out in the order of their first use, in each process its own."""

_ALBUMENTATIONS, _NLPAUG = "albumentations", "nlpaug"
_ARGUMENTS = 3  # an image, the parameter, the generator: what comes behind are options
_known: dict[str, Op] = {}
_codes: dict[int, Op] = {}
_trusted: set[str] = set()
_lock = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class CustomOp(Op):
    """An op written in Python.

    Attributes:
        function: takes an image (h, w, c), the parameter and a ``numpy.random.Generator`` that depends on the
            image's id, seed, epoch and place in the program only, and gives a new image of the same shape and
            dtype.
        mask_function: the same for a mask, from the same random numbers; None: the mask stays as it is.
        points_function: takes points (n, 2) in pixels, the parameter, the generator and (height, width).
        options: further keyword arguments of the function.
        cuda: CUDA C++ of a twin, see :func:`op`.
    """

    function: Function = lambda image, _parameter, _rng: image
    mask_function: Function | None = None
    points_function: Callable[..., F64] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    cuda: str = ""

    def call(self, image: Array, values: F64, key: U32) -> Array:
        """Carry it out on one image."""
        return self._done(self.function, image, values, key)

    def move_mask(self, mask: Array, values: F64, key: U32) -> Array:
        """Move a mask along."""
        if self.mask_function is None:
            return mask
        made = self._done(self.mask_function, mask, values, key)
        if made.shape != mask.shape or made.dtype != mask.dtype:
            raise ValueError(
                f"{self.name} made a mask {made.dtype} {made.shape} of {mask.dtype} {mask.shape}: "
                "an op keeps both"
            )
        return made

    def move_points(self, points: F64, values: F64, key: U32, size: tuple[int, int]) -> F64:
        """Where points of the source stand in the output.

        Raises:
            ValueError: the op does not say.
        """
        if self.points_function is None:
            raise ValueError(
                f"{self.name} moves pixels, but has no points= that says where boxes and keypoints go"
            )
        made: F64 = np.asarray(
            self.points_function(points, float(values[0]), streams.generator(key), size, **self.options),
            np.float64,
        )
        if made.shape != points.shape:
            raise ValueError(
                f"{self.name} made points of {made.shape} of {len(points)} points: an op keeps all of them"
            )
        return made

    def _done(self, function: Function, image: Array, values: F64, key: U32) -> Array:
        before = image.flags.writeable
        image.flags.writeable = False  # an op that writes into its input would change other images' source
        try:
            return np.asarray(function(image, float(values[0]), streams.generator(key), **self.options))
        except Exception as error:
            error.add_note(
                f"in the custom op {self.name} at {values[0]:g} on an image of {image.dtype} {image.shape}"
            )
            raise
        finally:
            image.flags.writeable = before


def op(
    function: Function | None = None,
    *,
    magnitude: tuple[float, float] | None = None,
    signed: bool = False,
    whole: bool = False,
    words: str = "{p:.2f}",
    mask: Function | None = None,
    points: Callable[..., F64] | None = None,
    cuda: str = "",
) -> Any:
    """Make an op of a function of an image, a parameter and a random generator.

    An op that is defined anew (a cell of a notebook is run again) takes the place of the old one.

    Args:
        function: what is decorated, see :class:`CustomOp`. It has to stand in a module, under its own name.
        magnitude: the parameters at level 0, where it does least, and at level 1. None: the op is on or off.
        signed: half of the draws go from the parameter of level 0 the other way.
        whole: the parameter is rounded.
        words: how to say a parameter.
        mask: how it moves a mask; where it or ``points`` is given, the op is a geometric one.
        points: how it moves points, see :class:`CustomOp`.
        cuda: the source of a twin: ``extern "C" __global__ void op(const T* src, T* dst, int n, int h, int w,
            int c, const double* parameters, const unsigned int* keys)`` with ``T`` defined as the pixels' type;
            parameters (n,), keys (n, 4). It has to give the bytes that the function gives; CuPy compiles it
            with ``-ftz=true``, so that operators take floats nearer to zero than 2**-126 for zero.

    Returns:
        A :class:`CustomOp`; its ``name`` stands in policies.

    Raises:
        ValueError: another process could not find the function, or a magnitude or words are none.
        TypeError: it is no function.
    """
    if magnitude is not None:
        _check_magnitude(magnitude)
    try:
        words.format(p=1.0)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"words say a parameter p, as '{{p:.1f}} px' does, not {words!r}") from error

    def made(function: Function) -> CustomOp:
        name = _path(function)
        ends = (Range(*magnitude, words, signed=signed, whole=whole),) * 2 if magnitude else (NONE, NONE)
        row = CustomOp(
            name, 0, "call", *ends, targets=GEOMETRY if mask or points else PIXELS,
            words=(inspect.getdoc(function) or "").partition("\n")[0], function=function, mask_function=mask,
            points_function=points, cuda=cuda,
        )  # fmt: skip
        found: CustomOp = _enter(row, anew=True)  # type: ignore[assignment]  # as it went in
        return found

    return made if function is None else made(function)


def _path(function: Function) -> str:
    """Under which name another process finds the function."""
    if not hasattr(function, "__qualname__"):
        kind = type(function).__name__
        raise TypeError(f"augment.op makes an op of a function, not {kind}: write it with def")
    name = f"{function.__module__}.{function.__qualname__}"
    if "<" in function.__qualname__:
        what = "is a lambda" if "<lambda>" in function.__qualname__ else "stands inside a function"
        raise ValueError(
            f"{name} {what}, which no other process finds by name: write it with def at the top of a module; "
            "what differs goes into keyword arguments, which a policy sets as options"
        )
    return name


def _check_magnitude(ends: Sequence[Any]) -> None:
    if len(ends) != 2 or not all(isinstance(end, (int, float)) for end in ends):  # noqa: PLR2004  (a pair)
        raise ValueError(f"magnitude={ends!r}: give two numbers, the parameters at level 0 and at level 1")
    if not all(map(math.isfinite, ends)) or ends[0] == ends[1]:
        raise ValueError(f"magnitude={ends!r}: the two must be finite, and differ")


def split(spelt: str) -> tuple[str, dict[str, Any]]:
    """The path of an op and its options.

    >>> split('albumentations.CLAHE{"clip_limit": 3}')
    ('albumentations.CLAHE', {'clip_limit': 3})
    """
    path, brace, rest = spelt.partition("{")
    try:
        return path, json.loads(brace + rest) if brace else {}
    except json.JSONDecodeError as error:
        what = f"{error.msg} at character {error.pos}"
        raise ValueError(f"the options behind {path} are no JSON: {what}") from error


def spell(path: str, options: Mapping[str, Any]) -> str:
    """The name of an op with options: the opposite of :func:`split`; equal options, equal names."""
    return path + (json.dumps(options, sort_keys=True) if options else "")


def trust(name: str) -> None:
    """Let the module of an op be imported: its name came in a pickle, which can import what it likes anyway."""
    path, _ = split(name)
    if "." in path:
        _trusted.add(path.rpartition(".")[0])


def find(name: str) -> Op:
    """The custom op of that name.

    Raises:
        ValueError: there is none, or its module has not been imported.
    """
    with _lock:
        if name in _known:
            return _known[name]
    path, options = split(name)
    if path.partition(".")[0] == _ALBUMENTATIONS:
        from augment.bridges import albumentations as bridge

        row: Op = bridge.find(name, path.partition(".")[2], options)
    elif path.partition(".")[0] == _NLPAUG:
        from augment.bridges import nlpaug

        row = nlpaug.find(name, path.partition(".")[2], options)
    else:
        row = _with_options(_in_module(path), name, options)
    return _enter(row)


def by_code(code: int) -> Op:
    """The custom op with that code.

    Raises:
        ValueError: there is none.
    """
    with _lock:
        if code in _codes:
            return _codes[code]
    raise ValueError(f"no op has the code {code}")


def _in_module(path: str) -> CustomOp:
    module_name, _, attribute = path.rpartition(".")
    module = sys.modules.get(module_name)
    if module is None and module_name in _trusted:
        module = import_module(module_name)
    if module is None:
        raise ValueError(
            f"no op is called {path!r}: no module {module_name!r} has been imported; import it, or name it "
            "under plugins: in the configuration"
        )
    found = getattr(module, attribute, None)
    if isinstance(found, CustomOp):
        return found
    there = [name for name, value in vars(module).items() if isinstance(value, CustomOp)]
    close = get_close_matches(attribute, there, n=1)
    hint = f"did you mean {module_name}.{close[0]}?" if close else f"its ops are {', '.join(there) or 'none'}"
    what = "is no op: decorate it with augment.op" if found is not None else "does not exist"
    raise ValueError(f"no op is called {path!r}: {attribute} {what}; {hint}")


def _with_options(row: CustomOp, name: str, options: dict[str, Any]) -> CustomOp:
    if not options:
        return row
    known = list(inspect.signature(row.function).parameters.values())[_ARGUMENTS:]
    names = [one.name for one in known if one.kind in {one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD}]
    wrong = [key for key in options if key not in names]
    if wrong and not any(one.kind is one.VAR_KEYWORD for one in known):
        raise ValueError(f"{row.name} takes no option {wrong[0]!r}; it has {', '.join(names) or 'none'}")
    return replace(row, name=name, options=MappingProxyType(options))


def _enter(row: Op, *, anew: bool = False) -> Op:
    """Know an op from now on, with a code of its own: threads may look for many at once."""
    with _lock:
        old = _known.get(row.name)
        if old is not None and not anew:
            return old
        for name in [name for name in _known if name.startswith(f"{row.name}{{")]:
            del _known[name]  # with options: made of what it was before
        row = replace(row, code=CODES + len(_codes) if old is None else old.code)
        _known[row.name] = _codes[row.code] = row
        return row
