"""The tables of a pipeline as assets of Dagster.

::

    from pipeline.integrations.dagster import gristmill_assets

    tables = gristmill_assets("/data/reviews/gristmill.yaml")
"""

# No `from __future__ import annotations` here: Dagster wants the context's annotation as a class.
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import dagster

from pipeline.config import load
from pipeline.integrations.process import CONFIG_IS_WRONG, REJECTS, Call, Outcome

__all__ = ["gristmill_assets"]


def gristmill_assets(
    config: str,
    *,
    overrides: Sequence[str] = (),
    name: str | None = None,
    rejects: Literal["fail", "pass"] = "fail",
    retries: int = 2,
    command: str = "gristmill",
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    group: str = "gristmill",
) -> dagster.AssetsDefinition:
    """Three assets, `raw`, `clean` and the sink, which one run brings up to date.

    Their keys are ``[pipeline, table]``. The data version of an asset is the version of its Delta table, so
    what comes after it is stale exactly when the table has changed.

    Args:
        config: path of the configuration; read when the code location is loaded.
        overrides: ``path=value`` each, as ``--set`` takes them.
        name: of the computation; from the pipeline's unless given.
        rejects: whether exit code 3, more unreadable rows than allowed, fails the step. The tables are written,
            and recorded, in any case.
        retries: starts after a failed one; a wrong configuration and rejects are not tried again.
        command: how `gristmill` is called.
        options: further words of the command line, such as ``["--workers", "8"]``.
        env: variables beside those of the process.
        group: of the assets.

    Raises:
        InvalidConfigError: all that is wrong with the configuration.
    """
    read = load(config, overrides)
    keys = {table: dagster.AssetKey([read.name, table]) for table in (read.raw, read.clean, read.sink.name)}
    before = dict(zip([read.clean, read.sink.name], [read.raw, read.clean], strict=True))
    specs = [
        dagster.AssetSpec(
            key,
            deps=[keys[before[table]]] if table in before else [],
            group_name=group,
            kinds={"deltalake"},
            metadata={"lake": read.lake, "table": table},
        )
        for table, key in keys.items()
    ]

    @dagster.multi_asset(  # type: ignore[untyped-decorator]  # Dagster is not there when types are checked
        specs=specs,
        name=name or f"gristmill_{read.name.replace('-', '_')}",
        retry_policy=dagster.RetryPolicy(max_retries=retries, delay=60) if retries else None,
    )
    def tables(context: dagster.AssetExecutionContext) -> Iterator[dagster.MaterializeResult]:
        call = Call(config, tuple(overrides), command=command, options=tuple(options), env=dict(env or {}))
        ended = call.carry_out(context.log.info)
        if ended.code not in {0, REJECTS}:
            raise dagster.Failure(ended.complaint, allow_retries=ended.code != CONFIG_IS_WRONG)
        for table, key in keys.items():
            yield _result(table, key, ended)
        if ended.code == REJECTS and rejects == "fail":
            raise dagster.Failure(ended.complaint, allow_retries=False)

    return tables


def _result(table: str, key: dagster.AssetKey, ended: Outcome) -> dagster.MaterializeResult:
    summary = ended.summary
    state: dict[str, Any] = summary.get("tables", {}).get(table, {})
    steps = summary.get("steps", [])
    dropped = sum(sum((each["drops"] or {}).values()) for each in steps)
    metadata = {
        "dagster/row_count": state.get("rows"),
        "delta_version": state.get("version"),
        "run": summary.get("run"),
        "status": summary.get("status"),
        "seconds": summary.get("seconds"),
        "dropped_by_run": dropped,
        "steps": dagster.MetadataValue.json(steps),
    }
    return dagster.MaterializeResult(
        asset_key=key,
        metadata={name: value for name, value in metadata.items() if value is not None},
        data_version=dagster.DataVersion(str(state["version"])) if "version" in state else None,
    )
