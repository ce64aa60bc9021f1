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
import sys
import threading
from collections.abc import Callable, Mapping
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
        return mask if self.mask_function is None else self._done(self.mask_function, mask, values, key)

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
            parameters (n,), keys (n, 4). It has to give the bytes that the function gives.

    Returns:
        A :class:`CustomOp`; its ``name`` stands in policies.
    """

    def made(function: Function) -> CustomOp:
        name = f"{function.__module__}.{function.__qualname__}"
        ends = (Range(*magnitude, words, signed=signed, whole=whole),) * 2 if magnitude else (NONE, NONE)
        row = CustomOp(
            name, 0, "call", *ends, targets=GEOMETRY if mask or points else PIXELS,
            words=(inspect.getdoc(function) or "").partition("\n")[0], function=function, mask_function=mask,
            points_function=points, cuda=cuda,
        )  # fmt: skip
        _enter(replace(row, code=_next_code(name)))
        found: CustomOp = _known[name]  # type: ignore[assignment]  # just entered
        return found

    return made if function is None else made(function)


def split(spelt: str) -> tuple[str, dict[str, Any]]:
    """The path of an op and its options.

    >>> split('albumentations.CLAHE{"clip_limit": 3}')
    ('albumentations.CLAHE', {'clip_limit': 3})
    """
    path, brace, rest = spelt.partition("{")
    return path, json.loads(brace + rest) if brace else {}


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
    return _enter(replace(row, code=_next_code(name)))


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
    known = inspect.signature(row.function).parameters
    wrong = [key for key in options if key not in known]
    if wrong:
        raise ValueError(
            f"{row.name} takes no option {wrong[0]!r}; it has {', '.join(list(known)[3:]) or 'none'}"
        )
    return replace(row, name=name, options=MappingProxyType(options))


def _next_code(name: str) -> int:
    with _lock:
        return _known[name].code if name in _known else CODES + len(_codes)


def _enter(row: Op) -> Op:
    with _lock:
        _known[row.name] = _codes[row.code] = row
        return row
