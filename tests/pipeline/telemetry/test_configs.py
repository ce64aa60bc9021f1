"""The dashboard and the alerts speak of metrics that exist; promtool, where it is, has the last word."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.telemetry.catalogue import METRICS

ROOT = Path(__file__).parents[3]
DASHBOARD = json.loads((ROOT / "configs" / "grafana" / "gristmill.json").read_text())
ALERTS = yaml.safe_load((ROOT / "configs" / "prometheus" / "alerts.yml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
KNOWN = {metric.full_name: {"lake", *metric.labels} for metric in METRICS.values()}
RECORDED = {rule["record"]: {"lake", "pipeline", "stage", "step"} for rule in RULES if "record" in rule}

_METRIC = re.compile(r"\b(gristmill[:_][a-z_:]+)(\{[^}]*\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


def check(expression: str) -> None:
    """Every metric is one of ours, and has the labels that it is asked for."""
    found = _METRIC.findall(expression)
    assert found, expression
    known = KNOWN | RECORDED
    for name, matchers in found:
        assert name in known, name
        assert set(_LABEL.findall(re.sub(r'"[^"]*"', '""', matchers))) <= known[name], expression
    for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert {label.strip() for label in labels.split(",")} <= set.union(*(known[name] for name, _ in found))


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_a_panel_asks_for_what_there_is(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        check(target["expr"])
        assert set(re.findall(r"\$(\w+)", target["expr"])) <= {"lake", "pipeline"}
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert shown <= set.union(*(KNOWN[name] for name, _ in _METRIC.findall(target["expr"])))


def test_the_dashboard_fits_together() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not mine & cells, panel["title"]
        cells |= mine
    for variable in DASHBOARD["templating"]["list"][1:]:
        check(variable["query"]["query"])
    assert all(panel["datasource"] == {"type": "prometheus", "uid": "${source}"} for panel in PANELS)


@pytest.mark.parametrize("rule", RULES, ids=[rule.get("alert") or rule["record"] for rule in RULES])
def test_a_rule_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    check(rule["expr"])
    if "alert" in rule:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_page_has_every_metric_and_no_other() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    assert set(re.findall(r"`(gristmill_[a-z_]+)`", page)) == set(KNOWN)


promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


@promtool
def test_promtool_reads_the_alerts_and_they_fire_where_they_should() -> None:
    alerts = ROOT / "configs" / "prometheus" / "alerts.yml"
    tests = Path(__file__).with_name("alerts_test.yml")
    for command in (["check", "rules", str(alerts)], ["test", "rules", str(tests)]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_promtool_reads_every_panel(tmp_path: Path) -> None:
    expressions = [target["expr"] for panel in PANELS for target in panel["targets"]]
    rules = [{"record": f"panel:{at}", "expr": each.replace("$", "")} for at, each in enumerate(expressions)]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
