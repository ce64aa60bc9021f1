"""Work on threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from lake.parallel import in_order


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_and_few_items_wait(threads: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(40):
            taken += 1
            yield item

    def work(item: int) -> tuple[int, int]:
        time.sleep(0.002 * (item % 3))  # some overtake others
        return item, threading.get_ident()

    found = []
    for result in in_order(threads, work, items()):
        found.append(result)
        assert taken <= len(found) + threads
    assert [item for item, _ in found] == list(range(40))
    assert len({thread for _, thread in found}) <= threads


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_where_its_item_would(threads: int) -> None:
    results = in_order(threads, lambda item: 1 // item, [2, 1, 0, 1])
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
