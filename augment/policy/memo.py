"""Remembering what was worked out of a frozen value, for as long as that value lives.

By identity: hashing a policy of a hundred choices takes as long as drawing from it. Nothing is stored in the
value itself, since ``model_copy`` would hand it on to a value that differs.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Memo"]

V = TypeVar("V")


class Memo(Generic[V]):
    """A function of one frozen value, called once for each.

    Args:
        make: the function.

    >>> class Value: ...
    >>> memo, value = Memo(lambda value: [id(value)]), Value()
    >>> memo(value) is memo(value)
    True
    """

    def __init__(self, make: Callable[[Any], V]) -> None:
        self._make = make
        self._made: dict[int, tuple[weakref.ref[Any], V]] = {}

    def __call__(self, value: Any) -> V:
        """What the function makes of ``value``."""
        key = id(value)
        known = self._made.get(key)
        # Another value may live at the address of one that is gone, before that one's last word was heard.
        if known is not None and known[0]() is value:
            return known[1]
        made = self._make(value)
        self._made[key] = (weakref.ref(value, lambda reference: self._forget(key, reference)), made)
        return made

    def _forget(self, key: int, reference: weakref.ref[Any]) -> None:
        known = self._made.get(key)
        if known is not None and known[0] is reference:
            del self._made[key]
