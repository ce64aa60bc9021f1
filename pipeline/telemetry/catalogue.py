"""Every metric that Gristmill exports: its name, type, labels and meaning. Nothing else is exported."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["METRICS", "Metric"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, a gauge: all of them are states that a scrape finds, so that a restart loses nothing.

    Attributes:
        name: without the prefix ``gristmill_``.
        help: what it says, with its unit.
        labels: beside ``lake``, which every metric has.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """As Prometheus shows it."""
        return f"gristmill_{self.name}"


_STEP = ("pipeline", "stage", "step")

LIVE = (
    Metric("run_active", "1 while a run is under way, else 0.", ("pipeline",)),
    Metric("run_start_time_seconds", "When the last run began, Unix time.", ("pipeline",)),
    Metric("run_end_time_seconds", "When the last run ended, Unix time; absent during a run.", ("pipeline",)),
    Metric("run_heartbeat_time_seconds", "When the run last got on, Unix time.", ("pipeline",)),
    Metric("run_success", "1 if the last run ended well, 0 if not; absent during a run.", ("pipeline",)),
    Metric("run_rejects", "1 if the last run read more bad rows than it may, else 0.", ("pipeline",)),
    Metric("run_seconds", "Wall seconds of the run, so far or in all.", ("pipeline",)),
    Metric("run_workers", "Workers of the run; absent where the cluster decides.", ("pipeline",)),
    Metric("stage_active", "1 for the stage at work.", ("pipeline", "stage")),
    Metric("pass_parts_done", "Parts done of a pass of the run.", ("pipeline", "pass")),
    Metric("pass_rows", "Rows gone through in a pass of the run.", ("pipeline", "pass")),
    Metric("pass_seconds", "Wall seconds of a pass of the run, once it is over.", ("pipeline", "pass")),
    Metric("queue_parts", "Parts of the present pass that wait or are at work.", ("pipeline",)),
    Metric("gpu_busy_ratio", "Share of the last second in which the GPU computed.", ("gpu",)),
    Metric("gpu_memory_used_bytes", "Memory in use on the GPU.", ("gpu",)),
)
"""What only a living run knows."""

STANDING = (
    Metric("lake_up", "1 if there is a lake and it can be read, else 0."),
    Metric("table_rows", "Rows of a table's newest version.", ("table",)),
    Metric("table_bytes", "Bytes of a table's newest version.", ("table",)),
    Metric("table_files", "Files of a table's newest version.", ("table",)),
    Metric("table_version", "The newest Delta version of a table.", ("table",)),
    Metric(
        "stage_commit_time_seconds", "When a stage last changed the lake, Unix time.", ("pipeline", "stage")
    ),
    Metric("stage_seconds", "Wall seconds of a stage's last run with work.", ("pipeline", "stage")),
    Metric("stage_gpu_busy_ratio", "Share of time in which the stage's GPUs computed.", ("pipeline", "stage")),
    Metric("stage_pool_busy_ratio", "Share of time in which the GPU actors worked.", ("pipeline", "stage")),
    Metric("step_rows_in", "Rows that entered a step in its stage's last run.", _STEP),
    Metric("step_rows_kept", "Rows that a step kept.", _STEP),
    Metric("step_rows_made", "Training copies that a step made.", _STEP),
    Metric("step_rows_dropped", "Rows that a step dropped, by rule.", (*_STEP, "rule")),
    Metric("step_busy_seconds", "Worker seconds that a step was at work.", _STEP),
    Metric("labels_saved", "Rows of the last runs that repeat a kept one.", ("pipeline",)),
    Metric("newest_file_time_seconds", "Modification time of the newest file read, Unix time.", ("pipeline",)),
    Metric("files_waiting", "Files of the sources that no run has read.", ("pipeline",)),
    Metric("oldest_waiting_file_time_seconds", "Modification time of the oldest of them.", ("pipeline",)),
    Metric("cost", "Cost by the prices given: docs/observability.md.", ("pipeline", "kind", "currency")),
)
"""What the lake itself tells, with or without a run."""

METRICS = {each.name: each for each in (*LIVE, *STANDING)}
"""All of them by name."""
