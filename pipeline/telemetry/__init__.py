"""What a run tells while it works: metrics, structured logs, lineage and cost.

>>> from pipeline import telemetry
>>> with telemetry.observing(lineage="lineage.jsonl") as observers:  # doctest: +SKIP
...     pipeline.run(observers=observers)

Nothing here can end a run or hold it up: what is not delivered in time is left out, with one warning.
"""

from pipeline.telemetry.events import (
    Dataset,
    Event,
    Observer,
    RunFailed,
    RunFinished,
    RunStarted,
    StageCommitted,
    StageStarted,
    StepAdvanced,
    StepFinished,
    StepStarted,
)
from pipeline.telemetry.session import observing

__all__ = [
    "Dataset",
    "Event",
    "Observer",
    "RunFailed",
    "RunFinished",
    "RunStarted",
    "StageCommitted",
    "StageStarted",
    "StepAdvanced",
    "StepFinished",
    "StepStarted",
    "observing",
]
