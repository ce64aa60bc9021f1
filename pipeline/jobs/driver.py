"""What a job starts: ``python -m pipeline.jobs.driver run ...`` is ``gristmill run ...`` on the cluster."""

from __future__ import annotations

import signal
from types import FrameType


def main() -> None:
    """Run the command line; a job that is stopped ends as by Ctrl-C, so that it lets go of its locks."""
    from lake.errors import GristmillError
    from pipeline.cli import main as command
    from pipeline.jobs import secrets

    signal.signal(signal.SIGTERM, _interrupted)
    try:
        secrets.arrive()
    except GristmillError as error:
        raise SystemExit(f"error: {error}") from None
    try:
        command()
    finally:
        secrets.forget()


def _interrupted(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
