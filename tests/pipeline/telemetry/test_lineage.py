from __future__ import annotations

import importlib
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from watching import Watched

from lake.errors import ConfigError
from pipeline.telemetry.events import RunFailed, RunStarted
from pipeline.telemetry.lineage import Lineage, destination, run_uuid


def by_job(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        found[event["job"]["name"]].append(event)
    return found


def test_each_stage_and_the_run_begin_and_end(watched: Watched) -> None:
    jobs = by_job(watched.lineage)
    assert {name: [event["eventType"] for event in events] for name, events in jobs.items()} == {
        name: ["START", "COMPLETE"] for name in ("small", "small.ingest", "small.train")
    }
    run = run_uuid(str(watched.pipeline.lake.uri), watched.report.run["run"])
    assert {event["run"]["runId"] for event in jobs["small"]} == {run}
    for stage in ("small.ingest", "small.train"):
        for event in jobs[stage]:
            parent = event["run"]["facets"]["parent"]
            assert parent["run"]["runId"] == run
            assert parent["job"] == {"namespace": "default", "name": "small"}
    assert [event["eventTime"] for event in watched.lineage] == sorted(e["eventTime"] for e in watched.lineage)


def test_versions_and_counts_are_those_of_the_tables(watched: Watched) -> None:
    lake, jobs = watched.pipeline.lake, by_job(watched.lineage)
    for name, table in (("small.ingest", "raw"), ("small.train", "train")):
        outputs = {each["name"]: each for each in jobs[name][-1]["outputs"]}
        made = outputs[f"{lake.uri}/{table}"]
        assert made["namespace"] == "file"
        assert made["facets"]["version"]["datasetVersion"] == str(lake.table(table).version)
        assert [field["name"] for field in made["facets"]["schema"]["fields"]] == lake.table(
            table
        ).schema().names
        statistics = made["outputFacets"]["outputStatistics"]
        assert statistics["rowCount"] == lake.table(table).count()
        assert statistics["size"] == lake.table(table).size_bytes
        assert statistics["fileCount"] == len(lake.table(table).parts())
        drops = outputs[f"{lake.uri}/_drops"]["facets"]["version"]["datasetVersion"]
        [commit] = [each for each in lake.table("_drops").history() if each.version == int(drops)]
        assert commit.app == f"small/{name.partition('.')[2]}"
    for event in jobs["small.train"]:  # at START too
        [source] = event["inputs"]
        assert source["name"] == f"{lake.uri}/raw"
        assert source["facets"]["version"]["datasetVersion"] == "1"
        assert source["inputFacets"]["inputStatistics"]["rowCount"] == lake.table("raw").count()
    [files] = jobs["small.ingest"][0]["inputs"]
    assert files["name"] == str(watched.folder / "texts")
    assert files["inputFacets"]["inputStatistics"]["fileCount"] == 3
    on_disk = sum(path.stat().st_size for path in (watched.folder / "texts").iterdir())
    assert files["inputFacets"]["inputStatistics"]["size"] == on_disk


def test_what_one_stage_writes_is_what_the_next_reads(watched: Watched) -> None:
    jobs = by_job(watched.lineage)
    written = {(each["namespace"], each["name"]) for each in jobs["small.ingest"][-1]["outputs"]}
    assert {(each["namespace"], each["name"]) for each in jobs["small.train"][0]["inputs"]} <= written


_MODULES = {"Dataset": "dataset", "Run": "run", "Job": "job"}


def facet(value: dict[str, Any]) -> Any:
    """The facet as the reference client's own class; unknown keys are errors there."""
    name = value["_schemaURL"].rpartition("/")[2]
    words = re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("Facet")).lower()
    module = importlib.import_module(f"openlineage.client.generated.{words}")
    kind = getattr(module, name)
    assert value["_schemaURL"] == kind._get_schema()
    values = {key: each for key, each in value.items() if not key.startswith("_")}
    return kind(**values, producer=value["_producer"])


def as_client_value(event: dict[str, Any]) -> Any:
    from openlineage.client import event_v2 as v2

    assert event["schemaURL"] == v2.RunEvent._get_schema()

    def facets(found: dict[str, Any]) -> dict[str, Any]:
        return {key: facet(value) for key, value in found.items()}

    def dataset(kind: Any, side: str, found: dict[str, Any]) -> Any:
        assert found.keys() <= {"namespace", "name", "facets", side}
        own = {side: facets(found.get(side, {}))}
        return kind(namespace=found["namespace"], name=found["name"], facets=facets(found["facets"]), **own)

    return v2.RunEvent(
        eventType=v2.RunState[event["eventType"]],
        eventTime=event["eventTime"],
        producer=event["producer"],
        run=v2.Run(runId=event["run"]["runId"], facets=facets(event["run"]["facets"])),
        job=v2.Job(event["job"]["namespace"], event["job"]["name"], facets(event["job"]["facets"])),
        inputs=[dataset(v2.InputDataset, "inputFacets", each) for each in event["inputs"]],
        outputs=[dataset(v2.OutputDataset, "outputFacets", each) for each in event["outputs"]],
    )


def test_the_reference_client_writes_the_same_events(watched: Watched, tmp_path: Path) -> None:
    pytest.importorskip("openlineage.client")
    from openlineage.client.serde import Serde

    started = next(event for event in watched.recorder.events if isinstance(event, RunStarted))
    failed = Lineage(str(tmp_path / "failed.jsonl"))
    failed.on(started)
    about = {"run": started.run, "pipeline": "small", "inputs": (), "seconds": 1.0, "interrupted": False}
    failed.on(RunFailed(stage="train", error="EngineError", message="a worker failed", **about))
    failed.close()
    lines = (tmp_path / "failed.jsonl").read_text().splitlines()
    for event in (*watched.lineage, *map(json.loads, lines)):
        theirs = json.loads(Serde.to_json(as_client_value(event)))
        assert without_nothing(theirs) == without_nothing(event)


def without_nothing(value: Any) -> Any:
    """Empty lists and dicts are left out by one side and written by the other."""
    if isinstance(value, dict):
        return {key: each for key, old in value.items() if (each := without_nothing(old)) not in ({}, [], None)}
    return [without_nothing(each) for each in value] if isinstance(value, list) else value


def test_a_service_gets_them_in_order_with_its_key(watched: Watched, service, monkeypatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "planted-key")
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "night")
    sent = Lineage(f"{service.url}/")
    for event in watched.recorder.events:
        sent.on(event)
    sent.close()
    assert {(method, path) for method, path, _, _ in service.requests} == {("POST", "/api/v1/lineage")}
    assert {headers["Authorization"] for _, _, headers, _ in service.requests} == {"Bearer planted-key"}
    got = [json.loads(body) for _, _, _, body in service.requests]
    assert [(event["eventType"], event["job"]["name"]) for event in got] == [
        (event["eventType"], event["job"]["name"]) for event in watched.lineage
    ]
    assert {event["job"]["namespace"] for event in got} == {"night"}
    assert "planted-key" not in json.dumps(got)


def test_an_object_store_is_named_by_its_bucket() -> None:
    from pipeline.telemetry.lineage import _named

    assert _named("s3://bucket/lake/train") == ("s3://bucket", "lake/train")
    assert _named("/data/lake/train") == ("file", "/data/lake/train")


@pytest.mark.parametrize("wrong", ["ftp://host/x", "http://", "s3://bucket/x"])
def test_where_lineage_cannot_go(wrong: str) -> None:
    with pytest.raises(ConfigError, match="lineage goes to"):
        destination(wrong)
