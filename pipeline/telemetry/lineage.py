"""OpenLineage: which table at which version was made from what, told event by event.

The events follow OpenLineage 2-0-2 (https://openlineage.io/spec/2-0-2/OpenLineage.json). A run is a job
named after the pipeline; each stage with work is a job ``pipeline.stage`` whose parent is the run.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from lake.errors import ConfigError
from pipeline.telemetry.courier import Courier, send
from pipeline.telemetry.datasets import is_web, plain_uri
from pipeline.telemetry.events import (
    Dataset,
    Event,
    RunFailed,
    RunFinished,
    RunStarted,
    StageCommitted,
    StageStarted,
)

__all__ = ["Lineage", "destination", "run_uuid"]

_SPEC = "https://openlineage.io/spec"
_SCHEMA = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS = {
    "DatasetVersionDatasetFacet": "1-0-1",
    "ErrorMessageRunFacet": "1-0-1",
    "InputStatisticsInputDatasetFacet": "1-0-0",
    "JobTypeJobFacet": "2-0-4",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "ParentRunFacet": "1-2-0",
    "ProcessingEngineRunFacet": "1-1-1",
    "SchemaDatasetFacet": "1-2-0",
    "StorageDatasetFacet": "1-0-1",
}
_ENDPOINT = "api/v1/lineage"
_NAMES = uuid.uuid5(uuid.NAMESPACE_URL, _SPEC)


def run_uuid(lake: str, run: str, stage: str | None = None) -> str:
    """The UUID (version 5) of a run, or of one of its stages: the same wherever it is worked out.

    >>> run_uuid("/lake", "20260101T000000-abcdef") == run_uuid("/lake", "20260101T000000-abcdef", "clean")
    False
    """
    whole = uuid.uuid5(_NAMES, f"{plain_uri(lake)}#{run}")
    return str(whole if stage is None else uuid.uuid5(whole, stage))


@dataclass(frozen=True, slots=True)
class _Destination:
    """Where events go, and how."""

    name: str
    deliver: Callable[[bytes], None]


def destination(text: str, environment: Mapping[str, str] = os.environ) -> _Destination:
    """What ``--lineage`` names: an address, or a file that gets a JSON object a line.

    The path under an address and the key come from the standard client's variables
    ``OPENLINEAGE_ENDPOINT`` and ``OPENLINEAGE_API_KEY``.

    Raises:
        ConfigError: the address has no host, or is of another kind.
    """
    if "://" not in text:
        return _Destination(text, _append(Path(text)))
    if not is_web(text):
        raise ConfigError("lineage goes to a FILE or to http(s)://HOST", where=plain_uri(text))
    endpoint = environment.get("OPENLINEAGE_ENDPOINT", _ENDPOINT).strip("/")
    url = f"{text.rstrip('/')}/{endpoint}"
    headers = {"Content-Type": "application/json"}
    if key := environment.get("OPENLINEAGE_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    return _Destination(plain_uri(text), lambda body: send("POST", url, body, headers))


def _append(path: Path) -> Callable[[bytes], None]:
    def deliver(body: bytes) -> None:
        with path.open("ab") as file:  # one write: lines of several runs do not mix
            file.write(body + b"\n")

    return deliver


class Lineage:
    """Sends OpenLineage events.

    Args:
        where: see :func:`destination`.
        namespace: of the jobs; ``OPENLINEAGE_NAMESPACE`` unless given, else ``default``.
    """

    def __init__(self, where: str, namespace: str | None = None) -> None:
        self._to = destination(where)
        self._namespace = namespace or os.environ.get("OPENLINEAGE_NAMESPACE") or "default"
        self._courier = Courier(self._to.name)
        self._started: RunStarted | None = None

    def on(self, event: Event) -> None:
        """See :class:`pipeline.telemetry.events.Observer`."""
        if isinstance(event, RunStarted):
            self._started = event
        if self._started is not None:
            for made in _Writer(self._started, self._namespace).of(event):
                body = json.dumps(made).encode()
                self._courier.take(lambda body=body: self._to.deliver(body))  # type: ignore[misc]  # bound now

    def close(self) -> None:
        """See :class:`pipeline.telemetry.events.Observer`."""
        self._courier.close()


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the events of one run as the specification has them."""

    started: RunStarted
    namespace: str

    def of(self, event: Event) -> Iterator[dict[str, Any]]:
        """None, one or, where a stage failed, two."""
        if isinstance(event, RunStarted):
            yield self._event(event, "START", None)
        elif isinstance(event, StageStarted):
            yield self._event(event, "START", event.stage, inputs=event.inputs)
        elif isinstance(event, StageCommitted):
            yield self._event(event, "COMPLETE", event.stage, inputs=event.inputs, outputs=event.outputs)
        elif isinstance(event, RunFinished):
            yield self._event(event, "COMPLETE", None)
        elif isinstance(event, RunFailed):
            kind = "ABORT" if event.interrupted else "FAIL"
            error = {"errorMessage": self._error(event)}
            if event.stage is not None:
                yield self._event(event, kind, event.stage, inputs=event.inputs, facets=error)
            yield self._event(event, kind, None, facets=error)

    def _event(
        self,
        event: Event,
        kind: str,
        stage: str | None,
        *,
        inputs: tuple[Dataset, ...] = (),
        outputs: tuple[Dataset, ...] = (),
        facets: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        run: dict[str, Any] = {"processing_engine": self._engine(), **(facets or {})}
        if stage is not None:
            run["parent"] = self._parent()
        return {
            "eventType": kind,
            "eventTime": event.time.isoformat(timespec="microseconds"),
            "producer": self._producer,
            "schemaURL": _SCHEMA,
            "run": {"runId": run_uuid(self.started.lake, event.run, stage), "facets": run},
            "job": {
                "namespace": self.namespace,
                "name": event.pipeline if stage is None else f"{event.pipeline}.{stage}",
                "facets": {"jobType": self._job_type(stage)},
            },
            "inputs": [self._dataset(each, "inputFacets") for each in inputs],
            "outputs": [self._dataset(each, "outputFacets") for each in outputs],
        }

    @property
    def _producer(self) -> str:
        return f"urn:gristmill:{self.started.code}"

    def _facet(self, kind: str, /, **values: object) -> dict[str, Any]:
        url = f"{_SPEC}/facets/{_FACETS[kind]}/{kind}.json#/$defs/{kind}"
        return {"_producer": self._producer, "_schemaURL": url, **values}

    def _engine(self) -> dict[str, Any]:
        return self._facet("ProcessingEngineRunFacet", version=self.started.code, name="Gristmill")

    def _job_type(self, stage: str | None) -> dict[str, Any]:
        kind = "PIPELINE" if stage is None else "STAGE"
        return self._facet("JobTypeJobFacet", processingType="BATCH", integration="GRISTMILL", jobType=kind)

    def _parent(self) -> dict[str, Any]:
        return self._facet(
            "ParentRunFacet",
            run={"runId": run_uuid(self.started.lake, self.started.run)},
            job={"namespace": self.namespace, "name": self.started.pipeline},
        )

    def _error(self, event: RunFailed) -> dict[str, Any]:
        message = f"{event.error}: {event.message}" if event.message else event.error
        return self._facet("ErrorMessageRunFacet", message=message, programmingLanguage="PYTHON")

    def _dataset(self, dataset: Dataset, side: str) -> dict[str, Any]:
        namespace, name = _named(dataset.uri)
        facets: dict[str, Any] = {}
        if dataset.version is not None:
            version = str(dataset.version)
            facets["version"] = self._facet("DatasetVersionDatasetFacet", datasetVersion=version)
            facets["storage"] = self._facet("StorageDatasetFacet", storageLayer="delta", fileFormat="parquet")
        if dataset.schema is not None:
            facets["schema"] = self._facet(
                "SchemaDatasetFacet", fields=[_field(each) for each in dataset.schema]
            )
        counts = {"rowCount": dataset.rows, "size": dataset.bytes, "fileCount": dataset.files}
        known = {key: value for key, value in counts.items() if value is not None}
        found: dict[str, Any] = {"namespace": namespace, "name": name, "facets": facets}
        if known and side == "inputFacets":
            found[side] = {"inputStatistics": self._facet("InputStatisticsInputDatasetFacet", **known)}
        elif known:
            found[side] = {"outputStatistics": self._facet("OutputStatisticsOutputDatasetFacet", **known)}
        return found


def _named(uri: str) -> tuple[str, str]:
    """Namespace and name of a place, as OpenLineage names files and tables by their place."""
    if "://" not in uri:
        return "file", uri
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}", parts.path.strip("/") or "/"


def _field(field: pa.Field) -> dict[str, Any]:
    """A column; those of a struct follow inside."""
    made: dict[str, Any] = {"name": field.name, "type": "struct" if _is_struct(field) else str(field.type)}
    if _is_struct(field):
        made["fields"] = [_field(field.type.field(at)) for at in range(field.type.num_fields)]
    return made


def _is_struct(field: pa.Field) -> bool:
    return bool(pa.types.is_struct(field.type))
