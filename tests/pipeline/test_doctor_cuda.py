"""The driver against CuPy's wheel, with a tool that says what nvidia-smi would."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import doctor
from pipeline.doctor import Check, checks

HEAD = "| NVIDIA-SMI 570.86.15    Driver Version: 570.86.15    CUDA Version: {} |"


@pytest.fixture
def examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def examine(cuda: str, *wheels: str) -> Check:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\ntest -n \"$1\" && echo 'H100, 80 GiB' || echo '{HEAD.format(cuda)}'\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        monkeypatch.setattr(doctor, "_version", lambda name: "14.0" if name in wheels else None)
        return next(each for each in checks() if each.name == "gpu")

    return examine


@pytest.mark.parametrize(
    ("cuda", "wheels", "status", "words"),
    [
        ("12.8", ("cupy-cuda12x",), "ok", "up to 12.8; cupy-cuda12x 14.0"),
        ("13.1", ("cupy-cuda12x",), "ok", "cupy-cuda12x 14.0"),  # drivers run older ones
        ("13.0", (), "ok", "pip install 'gristmill[cuda13]'"),
        ("12.2", (), "ok", "pip install 'gristmill[cuda12]'"),
        ("12.8", ("cupy-cuda13x",), "fail", "cupy-cuda13x needs CUDA 13"),
        ("12.8", ("cupy-cuda12x", "cupy-cuda13x"), "fail", "overwrite each other"),
        ("11.4", (), "warn", "up to 11.4"),
    ],
)
def test_driver_and_wheel(examine, cuda: str, wheels: tuple[str, ...], status: str, words: str) -> None:
    found = examine(cuda, *wheels)
    assert (found.status, words in found.detail) == (status, True), found
    assert bool(found.hint) == (status != "ok")


def test_the_hint_names_what_fits_the_driver(examine) -> None:
    assert examine("12.8", "cupy-cuda13x").hint.startswith(
        "pip uninstall cupy-cuda13x, then pip install 'gristmill[cuda12]'"
    )


def test_a_tool_that_does_not_say_is_believed(examine) -> None:
    assert examine("ERR!", "cupy-cuda13x").detail == "H100, 80 GiB"
