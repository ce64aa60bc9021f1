from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watching import Watched

from lake.errors import ConfigError
from pipeline.telemetry.cost import Prices, cost

money = st.floats(0, 1e6)


def lines(found) -> dict[str, float]:
    return {line.kind: line.amount for line in found.lines}


def test_the_cost_of_a_run_is_its_seconds_bytes_and_labels(watched: Watched) -> None:
    run = watched.report.run
    prices = Prices(core_hour=3600.0, gib_month=float(1 << 30), label=2.0, gpu_hour=7200.0, currency="EUR")
    found = lines(cost(run, prices, workers=3, gpus=2))
    assert found["compute"] == pytest.approx(3 * run["seconds"])
    assert found["gpu"] == pytest.approx(2 * 2 * run["seconds"])
    assert found["storage_month"] == pytest.approx(sum(each["bytes"] for each in run["tables"].values()))
    assert found["labels_saved"] == 2 * watched.report.figures.repeats
    assert cost(run, prices, workers=3, gpus=2).spent == pytest.approx(7 * run["seconds"])


def test_where_the_cores_are_not_known_the_seconds_at_work_count(watched: Watched) -> None:
    found = cost(watched.report.run, Prices(core_hour=3600.0), workers=None)
    assert lines(found)["compute"] == pytest.approx(
        sum(step["seconds"] for step in watched.report.run["steps"])
    )
    assert "idle cores are not counted" in found.render()


@given(money, money, st.integers(1, 1000), st.floats(0, 1e6))
def test_twice_the_price_or_the_workers_is_twice_the_cost(
    core: float, label: float, workers: int, seconds: float
):
    step = {"stage": "clean", "step": "s", "rows_in": 9, "rows_kept": 4, "drops": {"near-duplicate": 5}}
    run = {"seconds": seconds, "steps": [step]}
    once = lines(cost(run, Prices(core_hour=core, label=label), workers=workers))
    twice = lines(cost(run, Prices(core_hour=2 * core, label=2 * label), workers=workers))
    wide = lines(cost(run, Prices(core_hour=core), workers=2 * workers))
    assert twice == pytest.approx({kind: 2 * amount for kind, amount in once.items()})
    assert wide["compute"] == pytest.approx(2 * once["compute"])
    assert once["labels_saved"] == pytest.approx(5 * label)


def test_what_has_no_price_is_not_counted(watched: Watched) -> None:
    assert cost(watched.report.run, Prices(), workers=2).lines == ()
    assert not Prices().known
    assert cost(watched.report.run, Prices(gpu_hour=1.0), workers=2).lines == ()


@pytest.mark.parametrize(
    "wrong", ["core=1", "core_hour", "core_hour=", "label=-1", "label=nan", "currency=E1", "=1"]
)
def test_wrong_prices(wrong: str) -> None:
    with pytest.raises(ConfigError):
        Prices.parse([wrong])
