from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from pipeline import doctor
from pipeline.doctor import Check, checks


def find(name: str, found: list[Check]) -> Check:
    return next(each for each in found if each.name == name)


def test_this_machine_is_examined() -> None:
    found = checks()
    assert {"python", "packages", "extras", "import folders", "cores", "memory", "gpu"} == {
        each.name for each in found
    }
    assert find("python", found).status == "ok"
    assert find("python", found).detail.startswith(".".join(map(str, sys.version_info[:3])))
    assert int(find("cores", found).detail) >= 1
    assert all(each.hint for each in found if each.status != "ok")


def test_a_check_reads_well() -> None:
    assert str(Check("gpu", "ok", "none")) == "ok    gpu: none"
    assert str(Check("ray", "fail", "absent", "install it")) == "fail  ray: absent\n      do:  install it"


def test_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_OLDEST", (99, 0))
    assert find("python", checks()).status == "fail"


def test_missing_packages_and_absent_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["pydantic>=2", "no-such-thing>=1", "no-such-extra>=1 ; extra == 'ray'"]
    monkeypatch.setattr(doctor, "requires", lambda _: lines)
    found = checks()
    assert find("packages", found).status == "fail"
    assert "no-such-thing" in find("packages", found).detail
    assert find("extras", found).status == "ok"
    assert "gristmill[ray]" in find("extras", found).detail
    monkeypatch.setattr(doctor, "requires", lambda _: ["pydantic>=2"])
    assert find("packages", checks()).detail.startswith("pydantic 2.")


def test_a_folder_that_hides_ours_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find("import folders", checks()).status == "ok"
    (tmp_path / "pipeline").mkdir()
    assert find("import folders", checks()).status == "ok"  # a folder of files is no package
    (tmp_path / "pipeline" / "__init__.py").touch()
    found = find("import folders", checks())
    assert found.status == "warn"
    assert str(tmp_path / "pipeline") in found.detail


def test_a_stranger_that_was_imported_instead_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = doctor._home
    monkeypatch.setattr(doctor, "_home", lambda name: tmp_path / "dedup" if name == "dedup" else home(name))
    found = find("import folders", checks())
    assert found.status == "fail"
    assert str(tmp_path / "dedup") in found.detail
    monkeypatch.setattr(doctor, "_home", lambda name: None if name == "lake" else home(name))
    assert "cannot be found: lake" in find("import folders", checks()).detail


def test_the_lake_is_looked_at(tmp_path: Path) -> None:
    found = checks(str(tmp_path / "a" / "b"))
    assert find("lake", found).status == "ok"
    assert "not there yet" in find("lake", found).detail
    assert "GiB free" in find("disk", found).detail
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert find("lake", checks(str(tmp_path / "file"))).status == "fail"
    assert find("lake", checks("gopher://x")).status == "fail"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        found = find("lake", checks(str(tmp_path)))
    finally:
        tmp_path.chmod(stat.S_IRWXU)
    assert found.status == "fail"
    assert "permission" in found.detail


def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1 << 20}))
    assert find("disk", checks(str(tmp_path))).status == "warn"


def test_the_gpu_by_its_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find("gpu", checks()).detail.startswith("none")
    for script, status, detail in [
        ("echo 'NVIDIA H200, 143771 MiB'", "ok", "NVIDIA H200, 143771 MiB"),
        ("exit 9", "warn", "fails with 9"),
    ]:
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        found = find("gpu", checks())
        assert (found.status, detail in found.detail) == (status, True)


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "ray" else real(name))
    found = find("ray", checks(ray=True))
    assert (found.status, "gristmill[ray]" in found.hint) == ("fail", True)
