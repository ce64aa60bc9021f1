"""What is shown, and what was found out about it a moment ago."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar, cast

from lake.lake import Lake

__all__ = ["Memory", "Site"]

V = TypeVar("V")

WAIT = 0.4
"""Seconds that a page waits for something that takes a while; after that it asks to come back."""


class Memory:
    """The last few values that took a while to make, by what they were made of. Safe among threads.

    >>> Memory().soon("answer", lambda: 42)
    42
    """

    def __init__(self, most: int = 8, at_once: int = 2) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(at_once)
        self._found: dict[Hashable, Future[object]] = {}

    def soon(self, key: Hashable, make: Callable[[], V], wait: float = WAIT) -> V | None:
        """The value of a key, made once however many ask for it; None while it is being made.

        Args:
            key: all that the value depends on.
            make: makes it, in a thread of its own. What it raises is raised here, and forgotten.
            wait: seconds to wait for it.
        """
        with self._lock:
            future = self._found.get(key)
            if future is None:
                if not self._slots.acquire(blocking=False):
                    return None  # others come first
                future = self._found[key] = Future()
                threading.Thread(target=self._fill, args=(future, make), daemon=True).start()
        try:
            value = future.result(wait)
        except TimeoutError:
            if not future.done():
                return None
            self._forget(key)
            raise
        except BaseException:
            self._forget(key)
            raise
        return cast("V", value)

    def _fill(self, future: Future[object], make: Callable[[], object]) -> None:
        try:
            future.set_result(make())
        except BaseException as error:  # noqa: BLE001  (handed to whoever asked)
            future.set_exception(error)
        finally:
            with self._lock:
                done = [key for key, each in self._found.items() if each.done()]
                for key in done[: max(0, len(done) - self._most)]:
                    del self._found[key]
            self._slots.release()

    def _forget(self, key: Hashable) -> None:
        with self._lock:
            self._found.pop(key, None)


@dataclass(frozen=True)
class Site:
    """A lake on show.

    Attributes:
        lake: it.
        show_content: whether texts, pictures, labels and metadata of records may be shown.
        actions: whether schedules may be paused and resumed.
        memory: of the last few values that took a while.
    """

    lake: Lake
    show_content: bool = False
    actions: bool = False
    memory: Memory = field(default_factory=Memory, compare=False, repr=False)
