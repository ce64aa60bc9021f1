"""An operator for Airflow 2.9 and newer, and 3.

::

    from pipeline.integrations.airflow import GristmillOperator

    GristmillOperator(task_id="reviews", config="/data/reviews.yaml", overrides=["source.paths={{ ds }}/*"])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException

try:
    from airflow.sdk import BaseOperator
except ImportError:  # Airflow 2
    from airflow.models.baseoperator import BaseOperator

from pipeline.integrations.process import CONFIG_IS_WRONG, REJECTS, Call

__all__ = ["GristmillOperator"]


class GristmillOperator(BaseOperator):  # type: ignore[misc]  # Airflow is not there when types are checked
    """Bring a lake up to date: in a process of the worker, or as a job on a Ray cluster.

    The task's XCom is the summary of the run: for each step the rows in, kept and dropped by reason, and the
    version of each table; no record's content. A task that is tried again goes on where the last attempt was.

    Args:
        config: path of the configuration, on the worker.
        overrides: ``path=value`` each, as ``--set`` takes them.
        address: of a Ray cluster's dashboard: submit the run there.
        once: with an address: a name for this occasion; what succeeded under it is not run again.
        rejects: what exit code 3, more unreadable rows than allowed, does to the task: ``fail`` it without
            another attempt, ``skip`` it, or let it ``pass``. The tables are written in any case.
        command: how `gristmill` is called there; an absolute path where it has an environment of its own.
        options: further words of the command line, such as ``["--workers", "8"]``.
        env: variables beside those of the worker, such as the keys of the storage.
        patience: seconds that a run gets to end when the task is killed.

    Raises:
        AirflowFailException: the configuration is wrong, or there were too many unreadable rows.
        AirflowException: it failed otherwise; another attempt may help.
        AirflowSkipException: with ``rejects="skip"``.
    """

    template_fields: Sequence[str] = ("config", "overrides", "address", "once", "command", "options", "env")
    template_fields_renderers = {"overrides": "json", "env": "json"}  # noqa: RUF012  (Airflow's way)
    ui_color = "#e8dcc8"

    def __init__(
        self,
        *,
        config: str,
        overrides: Sequence[str] = (),
        address: str | None = None,
        once: str | None = None,
        rejects: Literal["fail", "skip", "pass"] = "fail",
        command: str = "gristmill",
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        patience: float = 60.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if rejects not in {"fail", "skip", "pass"}:
            raise AirflowException(f"rejects is fail, skip or pass, not {rejects!r}")
        self.config = config
        self.overrides = overrides
        self.address = address
        self.once = once
        self.rejects = rejects
        self.command = command
        self.options = options
        self.env = env
        self.patience = patience
        self._call: Call | None = None

    def execute(self, context: Any) -> dict[str, Any]:  # noqa: ARG002  (Airflow's signature)
        """Run it; gives the summary."""
        self._call = Call(
            self.config,
            tuple(self.overrides),
            self.address,
            self.once,
            self.command,
            tuple(self.options),
            dict(self.env or {}),
            self.patience,
        )
        ended = self._call.carry_out(self.log.info)
        if ended.code == 0 or (ended.code == REJECTS and self.rejects == "pass"):
            return ended.summary
        if ended.code == REJECTS and self.rejects == "skip":
            raise AirflowSkipException(ended.complaint)
        final = ended.code in {CONFIG_IS_WRONG, REJECTS}
        raise (AirflowFailException if final else AirflowException)(ended.complaint)

    def on_kill(self) -> None:
        """End the run, or the job."""
        if self._call is not None:
            self._call.stop()
