"""The ops, as a table: name, targets, magnitude ranges, and how a parameter becomes a kernel's numbers.

Rows stand by family: :mod:`augment.ops.autoaugment`, ``geometry``, ``tone``, ``colour``, ``erase``,
``effects`` and ``mixing``. How they are carried out: :mod:`augment.engine.compile`, :mod:`augment.engine.cpu`.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from augment.ops import autoaugment, colour, effects, erase, geometry, mixing, tone
from augment.ops.table import Applied, Kind, Op, Placed, Program, Range, Shape, Space

__all__ = [
    "NAMES", "OPS", "Applied", "Kind", "Op", "Placed", "Program", "Range", "Shape", "Space", "apply_op",
    "by_code", "describe", "find",
]  # fmt: skip

_TABLE = (*autoaugment.ROWS, *tone.ROWS, *geometry.ROWS, *erase.ROWS, *colour.ROWS, *effects.ROWS, *mixing.ROWS)

OPS: Mapping[str, Op] = MappingProxyType({op.name: op for op in _TABLE})
"""The table, by name."""

NAMES: tuple[str, ...] = tuple(OPS)
"""The names, in the order of the table."""

_BY_CODE = {op.code: op for op in _TABLE}


def find(name: str) -> Op:
    """The op of that name: one of the table, one for texts, or a custom one by its import path.

    Raises:
        ValueError: there is none; the message says which one may be meant.

    >>> find("Rotate").kind
    'warp'
    """
    if name in OPS:
        return OPS[name]
    if "." in name:
        from augment import custom

        return custom.find(name)
    from augment.text.table import BY_NAME

    if name in BY_NAME:
        return BY_NAME[name]
    known = {n.lower(): n for n in (*NAMES, *BY_NAME)}
    close = get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {known[close[0]]!r}?" if close else f"known are {', '.join(NAMES)}"
    raise ValueError(f"no op is called {name!r}: {hint}")


def by_code(code: int) -> Op:
    """The op with that code.

    >>> by_code(5).name
    'Rotate'
    """
    if code in _BY_CODE:
        return _BY_CODE[code]
    from augment import custom
    from augment.text.table import ROWS

    return next((op for op in ROWS if op.code == code), None) or custom.by_code(code)


def describe(program: Program, space: Space = "wide") -> str:
    """A program in words.

    >>> describe([Applied("Rotate", 12.4), Applied("Posterize", 5)])
    'Rotate 12.4° · Posterize 5 bits'
    >>> describe([])
    'unchanged'
    """
    parts = []
    for step in program:
        span = find(step.op).range(space)
        words = span.words.format(p=span.scale * step.parameter)
        parts.append(f"{step.op} {words}".rstrip())
    return " · ".join(parts) or "unchanged"


def apply_op(
    name: str,
    images: Any,
    level: float,
    *,
    ids: object = None,
    signs: npt.ArrayLike | None = None,
    seed: int = 0,
    space: Space = "wide",
) -> Any:
    """Apply one op at one normalised magnitude to every image of a batch.

    Args:
        name: an op.
        images: uint8, uint16 or float32, (n, h, w, c) or (n, h, w), or a list of (h, w, c) or (h, w) arrays.
        level: 0 .. 1 of the op's range.
        ids: what :func:`augment.rng.halves` takes; they draw the signs and the places of a Cutout.
            Without ids the positions 0 .. n - 1 stand for them.
        signs: +1 or -1 per image (or one for all) instead of drawn ones.
        seed: of the draws.
        space: which magnitude range.

    Returns:
        New images, the same kind as given.

    >>> import numpy as np
    >>> apply_op("Invert", np.zeros((1, 2, 2, 1), np.uint8), 0.0).max()
    np.uint8(255)
    """
    from augment import rng
    from augment.engine import cpu
    from augment.engine.programs import Programs

    op = find(name)
    if not 0.0 <= level <= 1.0:
        raise ValueError(f"a level lies in 0 .. 1, not {level}")
    n = len(images)
    stream = rng.Stream(range(n) if ids is None else ids, seed, 0)
    draws = stream.uniforms([0, 1, 2])
    sign = np.where(draws[:, 0] < 0.5, 1.0, -1.0) if signs is None else np.broadcast_to(signs, (n,))  # noqa: PLR2004  (a fair coin)
    programs = Programs(
        codes=np.full((n, 1), op.code, np.int64),
        parameters=np.broadcast_to(op.range(space).parameter(level, sign), (n,)).reshape(n, 1),
        x=draws[:, 1:2],
        y=draws[:, 2:3],
        keys=stream.keys([0]),
    )
    return cpu.execute(images, programs, space=space)
