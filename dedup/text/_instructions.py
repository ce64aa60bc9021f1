"""Instructions that Python has no word for, written out for the kernels as pieces of LLVM's code.

Vector code does not hang here on what the optimiser finds in a loop, and runs on any processor: LLVM makes of
it what the processor has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["BLOCK", "instruction", "matches", "pointer", "same"]

BLOCK = 8
"""Hashes of a set that :func:`matches` takes at a time."""

_HASHES = ir.VectorType(ir.IntType(32), BLOCK)


def same(vector: ir.VectorType, value: int) -> ir.Constant:
    """A vector of one value."""
    return ir.Constant(vector, [value] * vector.count)


def pointer(builder: Any, place: Any, what: Any) -> Any:
    """Make a pointer of an address."""
    return builder.inttoptr(place, what.as_pointer())


def instruction(result: Any, count: int, generate: Callable[..., Any]) -> Any:
    """Make a function of ``count`` uint64 that a kernel can call from a piece of LLVM code."""
    signature = result(*[types.uint64] * count)

    def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        found = generate(builder, *arguments)
        return context.get_dummy_value() if found is None else found

    shapes = {
        1: lambda _context, _a: (signature, code),
        2: lambda _context, _a, _b: (signature, code),
        5: lambda _context, _a, _b, _c, _d, _e: (signature, code),
    }  # Numba looks at the names of the arguments
    return intrinsic(shapes[count])


def _matches(builder: Any, x: Any, y: Any) -> Any:
    """Compare each of eight values with each of eight others, and count those that found an equal one.

    Lane ``k`` meets lane ``k ^ r`` of the others for r from 0 to 7: one permutation crosses the halves of a
    register, the others stay within them, which is cheaper.
    """
    mine, others = (builder.load(pointer(builder, place, _HASHES), align=4) for place in (x, y))
    found = None
    for half in (0, BLOCK // 2):
        turned = _permuted(builder, others, half)
        for step in range(BLOCK // 2):
            equal = builder.icmp_unsigned("==", mine, _permuted(builder, turned, step))
            found = equal if found is None else builder.or_(found, equal)
    bits = builder.bitcast(found, ir.IntType(BLOCK))
    return builder.zext(builder.ctpop(bits), ir.IntType(64))


def _permuted(builder: Any, vector: Any, step: int) -> Any:
    if not step:
        return vector
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [lane ^ step for lane in range(BLOCK)])
    return builder.shuffle_vector(vector, ir.Constant(_HASHES, ir.Undefined), lanes)


matches = instruction(types.uint64, 2, _matches)
"""``matches(x, y)``: how many of the BLOCK distinct uint32 at address ``x`` are among those at ``y``."""
