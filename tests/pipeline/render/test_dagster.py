"""The assets in a real Dagster: `make test-integrations` has one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

dagster = pytest.importorskip("dagster")
GRISTMILL = str(Path(sys.executable).parent / "gristmill")


def assets(corpus: Path, **more: Any) -> Any:
    from pipeline.integrations.dagster import gristmill_assets

    return gristmill_assets(str(corpus / "small.yaml"), command=GRISTMILL, **({"retries": 0} | more))


def versions(instance: Any) -> dict[str, str]:
    found = {}
    for table in ("raw", "clean", "train"):
        event = instance.get_latest_data_version_record(dagster.AssetKey(["small", table]))
        found[table] = event.asset_materialization.tags["dagster/data_version"]
    return found


def test_tables_are_assets_with_their_delta_versions(corpus: Path) -> None:
    from lake import Lake

    tables = assets(corpus)
    with dagster.DagsterInstance.ephemeral() as instance:
        done = dagster.materialize([tables], instance=instance)
        assert done.success
        lake = Lake(str(corpus / "lake"))
        first = versions(instance)
        assert first == {name: str(lake.table(name).version) for name in first}
        for event in done.get_asset_materialization_events():
            table = event.asset_key.path[-1]
            metadata = {name: each.value for name, each in event.materialization.metadata.items()}
            assert metadata["dagster/row_count"] == lake.table(table).to_table(columns=["_id"]).num_rows
            assert metadata["dropped_by_run"] == sum(sum(each["drops"].values()) for each in metadata["steps"])
        # Nothing has changed, so neither have the data versions: nothing after them becomes stale.
        assert dagster.materialize([tables], instance=instance).success
        assert versions(instance) == first


def test_clean_comes_from_raw_and_train_from_clean(corpus: Path) -> None:
    graph = {key.path[-1]: [each.path[-1] for each in deps] for key, deps in assets(corpus).asset_deps.items()}
    assert graph == {"raw": [], "clean": ["raw"], "train": ["clean"]}


def test_rejects_fail_the_step_but_the_tables_are_recorded(corpus: Path) -> None:
    with dagster.DagsterInstance.ephemeral() as instance:
        failing = assets(corpus, overrides=["allowed_rejects=0"], retries=2)
        done = dagster.materialize([failing], instance=instance, raise_on_error=False)
        assert not done.success
        assert set(versions(instance)) == {"raw", "clean", "train"}
        assert "unreadable" in str(done.get_step_failure_events()[0].event_specific_data.error_display_string)
    passing = assets(corpus, overrides=["allowed_rejects=0", "lake=passing"], rejects="pass")
    assert dagster.materialize([passing]).success


def test_a_wrong_configuration_is_told_when_the_code_is_loaded(corpus: Path) -> None:
    with pytest.raises(Exception, match="unknown key"):
        assets(corpus, overrides=["seeed=1"])


def test_the_rendered_definitions_load_and_run(corpus: Path, tmp_path: Path) -> None:
    from pipeline.render import render

    given = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "command": GRISTMILL}
    ((name, text),) = render(corpus / "small.yaml", "dagster", ["seed=3"], **given).items()
    (tmp_path / name).write_text(text)
    spec = importlib.util.spec_from_file_location("rendered", tmp_path / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dagster.Definitions.validate_loadable(module.defs)
    (schedule,) = module.defs.schedules
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 2 * * *", "Europe/Berlin")
    assert module.defs.resolve_job_def(module.job.name).execute_in_process().success
