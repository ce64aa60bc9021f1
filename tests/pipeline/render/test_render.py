"""Manifests and units: read back strictly, and judged by what they are for where that is here."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from lake.errors import ConfigError
from pipeline.cli import cli
from pipeline.config import loads
from pipeline.render import TARGETS, render

CONFIG = """
name: {name}
lake: {lake}
source: {{lake.Files: {{paths: {paths}}}}}
steps:
  - dedup.MinHash: {{threshold: 0.7}}
{more}
"""
KUBERNETES = ["rayjob", "cronjob", "raycronjob"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(
    folder: Path,
    name: str = "docs",
    lake: str = "s3://b/lake",
    paths: str = "s3://b/in/*.jsonl",
    more: str = "",
) -> Path:
    path = folder / "gristmill.yaml"
    path.write_text(CONFIG.format(name=name, lake=lake, paths=f'"{paths}"', more=more))
    return path


def options(target: str, **more: Any) -> dict[str, Any]:
    needed: dict[str, Any] = {"image": "registry.example/mill:1"} if target in KUBERNETES else {}
    if target != "rayjob":
        needed["cron"] = "30 2 * * *"
    if target == "systemd":
        needed |= {"user": "nobody", "command": "/bin/true"}
    return needed | more


def documents(files: dict[str, str]) -> list[dict[str, Any]]:
    """The documents of a single file; no key stands twice."""
    (text,) = files.values()

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
            return super().construct_mapping(node, deep)

    return list(yaml.load_all(text, Strict))


def pods(value: Any) -> Iterator[dict[str, Any]]:
    """Every pod template in a manifest."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for each in value.values():
            yield from pods(each)
    elif isinstance(value, list):
        for each in value:
            yield from pods(each)


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_twice(target: str, config: Path) -> None:
    once = render(config, target, **options(target))
    assert once == render(config, target, **options(target))
    for name, text in once.items():
        assert re.fullmatch(r"[\w.-]+", name)
        assert text.endswith("\n")
        assert not re.search(r"[ \t]+$|\n\n\n", text, re.MULTILINE)


@pytest.mark.parametrize("target", KUBERNETES)
def test_pods_run_unprivileged_with_the_same_configuration(target: str, config: Path) -> None:
    mapped, manifest = documents(
        render(
            config, target, ["steps.1.threshold=0.9"], **options(target, secrets=("keys",), claim="data:/data")
        )
    )
    shipped = loads(mapped["data"]["gristmill.yaml"])
    assert shipped.steps[0].threshold == 0.9
    assert shipped.lake == "s3://b/lake"
    found = list(pods(manifest))
    assert found
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        volumes = {each["name"]: each for each in pod["volumes"]}
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
            assert {each["name"] for each in container["volumeMounts"]} <= set(volumes)
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
            if container["name"] != "ray-job-submitter":
                assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
                assert volumes["config"]["configMap"]["name"] == mapped["metadata"]["name"]
                assert volumes["data"]["persistentVolumeClaim"]["claimName"] == "data"


def test_a_ray_job_is_sized_by_what_the_steps_ask_for(tmp_path: Path) -> None:
    asked = "{gpus: 1.5, cpus: 6, memory: 40GiB, custom: {fast: 2}}"
    more = f"resources: {{dedup.MinHash: {asked}, ingest: {{cpus: 7.5}}}}"
    path = written(tmp_path, more=more)
    _, job = documents(render(path, "rayjob", **options("rayjob", workers=9)))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    words = shlex.split(spec["entrypoint"])
    parsed = cli.commands["run"].make_context("run", words[2:], resilient_parsing=False)
    assert words[:2] == ["gristmill", "run"]
    assert parsed.params["address"] == "auto"
    assert yaml.safe_load(spec["runtimeEnvYAML"])
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] == 0
    cluster = spec["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    cpu, gpu = cluster["workerGroupSpecs"]
    limits = [each["template"]["spec"]["containers"][0]["resources"]["limits"] for each in (cpu, gpu)]
    assert limits == [{"memory": "16384Mi"}, {"memory": "40960Mi", "nvidia.com/gpu": "2"}]
    assert (cpu["rayStartParams"]["num-cpus"], gpu["rayStartParams"]["num-cpus"]) == ("8", "6")
    assert json.loads(json.loads(gpu["rayStartParams"]["resources"])) == {"fast": 2.0}
    assert {each["maxReplicas"] for each in (cpu, gpu)} == {9}


def test_no_gpu_where_no_step_asks_for_one(config: Path) -> None:
    (text,) = render(config, "rayjob", **options("rayjob")).values()
    assert "gpu" not in text


def test_a_step_on_cuda_gets_a_gpu(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().replace("MinHash: {threshold: 0.7}", "PHash: {device: cuda}"))
    (text,) = render(path, "rayjob", **options("rayjob")).values()
    assert 'nvidia.com/gpu: "1"' in text


def test_a_cron_job_never_overlaps_and_does_not_hide_rejects(config: Path) -> None:
    _, job = documents(render(config, "cronjob", **options("cronjob", timezone="Europe/Berlin")))
    spec = job["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == (
        "30 2 * * *",
        "Europe/Berlin",
        "Forbid",
    )
    assert spec["startingDeadlineSeconds"] == 3600
    inner = spec["jobTemplate"]["spec"]
    assert inner["backoffLimit"] == 2
    fail, ignore = inner["podFailurePolicy"]["rules"]
    (container,) = inner["template"]["spec"]["containers"]
    assert fail == {
        "action": "FailJob",
        "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [2, 3]},
    }
    assert ignore["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert inner["template"]["spec"]["restartPolicy"] == "Never"  # a failure policy needs it
    cli.commands["run"].make_context("run", container["args"][1:])


def test_a_cron_job_with_an_address_submits_each_fire_once(config: Path) -> None:
    _, job = documents(
        render(config, "cronjob", **options("cronjob", address="http://ray:8265", cron="*/5 * * * *"))
    )
    (container,) = next(pods(job))["containers"]
    parsed = cli.commands["submit"].make_context("submit", container["args"][1:])
    assert parsed.params["once"] == "$(GRISTMILL_FIRE)"
    (fire,) = [each for each in container["env"] if each["name"] == "GRISTMILL_FIRE"]
    assert fire["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['batch.kubernetes.io/job-name']"
    assert job["spec"]["startingDeadlineSeconds"] == 300


def test_a_ray_cron_job_says_that_it_is_alpha(config: Path) -> None:
    files = render(config, "raycronjob", **options("raycronjob", cron="0 3 * * 7"))
    _, job = documents(files)
    assert job["kind"] == "RayCronJob"
    assert job["spec"]["schedule"] == "0 3 * * 0"
    assert "ALPHA" in next(iter(files.values()))
    _, plain = documents(render(config, "rayjob", **options("rayjob")))
    assert job["spec"]["jobTemplate"] == plain["spec"]


@pytest.mark.parametrize(("target", "longest"), [("rayjob", 47), ("raycronjob", 36), ("cronjob", 52)])
def test_names_fit_and_two_pipelines_stay_two(target: str, longest: int, tmp_path: Path) -> None:
    names = [
        documents(render(written(tmp_path, name=name), target, **options(target)))[1]["metadata"]["name"]
        for name in ("a-b", "a_b", "long" * 15, "long" * 15 + "x", "ends-")
    ]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]*[a-z0-9]", each) and len(each) <= longest for each in names)


@pytest.mark.parametrize("target", KUBERNETES)
def test_folders_that_no_pod_sees_are_refused(target: str, tmp_path: Path) -> None:
    path = written(tmp_path, lake="./lake")
    with pytest.raises(ConfigError) as caught:
        render(path, target, **options(target))
    assert str(tmp_path / "lake") in str(caught.value)
    path = written(tmp_path, lake="/data/lake", paths="/data/in/*.jsonl")
    mapped, _ = documents(render(path, target, **options(target, claim="mine:/data")))
    assert loads(mapped["data"]["gristmill.yaml"]).source[0].paths == "/data/in/*.jsonl"
    with pytest.raises(ConfigError, match="do not see"):
        render(path, target, **options(target, claim="mine:/dat"))


@pytest.mark.parametrize(
    ("target", "wrong", "told"),
    [
        ("cronjob", {"cron": None}, "--cron"),
        ("rayjob", {"image": None}, "--image"),
        ("rayjob", {"cron": "@daily"}, "no use"),
        ("systemd", {"image": "x"}, "no use"),
        ("cronjob", {"rejects": "pass"}, "allowed_rejects"),
        ("systemd", {"rejects": "skip"}, "Airflow"),
        ("cronjob", {"secrets": ("KEY=value",)}, "--secret"),
        ("cronjob", {"claim": "data"}, "NAME:/path"),
        ("cronjob", {"namespace": "A b"}, "--namespace"),
        ("cronjob", {"cron": "61 * * * *"}, "minute"),
        ("cronjob", {"timezone": "Mars/Olympus"}, "time zone"),
        ("systemd", {"command": "gristmill"}, "full path"),
        ("nothing", {}, "no target"),
    ],
)
def test_what_is_wrong_is_said(target: str, wrong: dict[str, Any], told: str, config: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        render(config, target, **{**options(target), **wrong})
    assert told in str(caught.value)
    assert "KEY=value" not in str(caught.value)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    odd = tmp_path / "50% of $HOME 'x'"
    odd.mkdir()
    path = written(odd, lake="./lake")
    given = options("systemd", user="root", jitter=600.0, timezone="Europe/Berlin", cron="0 4 1 * MON")
    for name, text in render(path, "systemd", ["seed=7"], **given).items():
        (tmp_path / name).write_text(text)
    units = [str(tmp_path / f"gristmill-docs.{kind}") for kind in ("service", "timer")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    service, timer = (Path(each).read_text() for each in units)
    assert "Type=oneshot" in service
    assert 'ReadWritePaths="-' in service
    assert f'"{odd}/gristmill.yaml"'.replace("%", "%%").replace("$", "$$") in service
    assert timer.count("OnCalendar=") == 2
    assert "Persistent=true" in timer
    assert "RandomizedDelaySec=600" in timer


def test_rejects_are_a_success_to_systemd_only_where_one_says_so(config: Path) -> None:
    def success(**more: Any) -> str:
        text = render(config, "systemd", **options("systemd", **more))["gristmill-docs.service"]
        return next(line for line in text.splitlines() if line.startswith("SuccessExitStatus="))

    assert success() == "SuccessExitStatus=130"
    assert success(rejects="pass") == "SuccessExitStatus=3 130"


@pytest.mark.parametrize("target", ["airflow", "dagster"])
def test_orchestrators_get_python(target: str, config: Path) -> None:
    awkward = ['name=a"b', "x={{ y }}"]
    for name, text in render(config, target, **options(target)).items():
        compile(text, name, "exec")
        assert name == "gristmill_docs.py"
        assert str(config) in text
    with pytest.raises(ConfigError):
        render(config, target, awkward, **options(target))


def gristmill(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), catch_exceptions=True)


def test_the_verb_writes_a_folder_a_file_or_stdout(config: Path, tmp_path: Path) -> None:
    given = ["render", "cronjob", str(config), "--cron", "@daily", "--image", "a:1"]
    shown = gristmill(*given)
    assert shown.exit_code == 0
    assert len(list(yaml.safe_load_all(shown.stdout))) == 2
    assert gristmill(*given, "--output", str(tmp_path / "out")).exit_code == 0
    assert (tmp_path / "out" / "gristmill-docs.cronjob.yaml").read_text() == shown.stdout
    assert gristmill(*given, "--output", str(tmp_path / "one.yaml")).exit_code == 0
    assert (tmp_path / "one.yaml").read_text() == shown.stdout
    told = json.loads(gristmill(*given, "--json").stdout)
    assert list(told["files"].values()) == [shown.stdout]
    assert gristmill("render", "cronjob", str(config)).exit_code == 2
    assert gristmill("render", "cronjbo", str(config)).exit_code == 2
