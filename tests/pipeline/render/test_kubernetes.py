"""Manifests against the schemas of Kubernetes and, where `KUBERAY_CRDS` names their folder, of KubeRay."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.render import render

RICH: dict[str, Any] = {
    "image": "registry.example/mill:1",
    "secrets": ("one", "two"),
    "service_account": "mill",
    "claim": "data:/data",
}
CONFIG = """
name: docs
lake: /data/lake
source: {lake.Files: {paths: s3://b/in/*.jsonl}}
steps:
  - dedup.PHash: {device: cuda}
resources: {dedup.PHash: {gpus: 0.5, custom: {fast: 1}}}
"""
CASES = [
    ("cronjob", {"cron": "@daily"}),
    ("cronjob", {"cron": "@daily", "address": "http://ray:8265"}),
    ("rayjob", {}),
    ("rayjob", {"retries": 3, "namespace": "ml"}),
    ("raycronjob", {"cron": "*/15 1 * * 7", "timezone": "Europe/Berlin"}),
]


def rendered(folder: Path, target: str, **more: Any) -> list[dict[str, Any]]:
    (folder / "gristmill.yaml").write_text(CONFIG)
    (text,) = render(folder / "gristmill.yaml", target, **{**RICH, **more}).values()
    return list(yaml.safe_load_all(text))


@pytest.mark.parametrize(("target", "more"), CASES)
def test_kubernetes_knows_every_field(target: str, more: dict[str, Any], tmp_path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    known = [each for each in rendered(tmp_path, target, **more) if not each["apiVersion"].startswith("ray.io")]
    assert known
    for each in known:
        validate.validate(each, "1.30.0", strict=True)
    known[0]["unheard"] = 1
    with pytest.raises(validate.ValidationError):
        validate.validate(known[0], "1.30.0", strict=True)


@pytest.mark.skipif("KUBERAY_CRDS" not in os.environ, reason="KUBERAY_CRDS names no folder with KubeRay's CRDs")
@pytest.mark.parametrize(("target", "more"), [case for case in CASES if case[0] != "cronjob"])
def test_kuberay_knows_every_field(target: str, more: dict[str, Any], tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    _, manifest = rendered(tmp_path, target, **more)
    check = jsonschema.Draft7Validator(schema_of(manifest["kind"]))
    assert [error.message for error in check.iter_errors(manifest)] == []
    manifest["spec"]["unheard"] = 1
    assert list(check.iter_errors(manifest))


def schema_of(kind: str) -> dict[str, Any]:
    path = Path(os.environ["KUBERAY_CRDS"]) / f"ray.io_{kind.lower()}s.yaml"
    crd = yaml.safe_load(path.read_text())
    (schema,) = [each["schema"]["openAPIV3Schema"] for each in crd["spec"]["versions"] if each["name"] == "v1"]
    schema["properties"]["metadata"] = True
    strict: dict[str, Any] = closed(schema)
    return strict


def closed(schema: Any) -> Any:
    """The schema with every object closed: the API server would drop a field that it does not know."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found = {name: closed(each) for name, each in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found
