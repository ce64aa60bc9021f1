"""The gauge against a library with NVML's own signatures: there is no GPU here, the calls are real."""

from __future__ import annotations

import subprocess
import time

import pytest

from pipeline.engine.nvml import LIBRARY, Gauge

SOURCE = """
#include <string.h>
typedef struct { unsigned gpu, memory; } rates_t;
static int ready; static int devices[2] = {7, 93};
int nvmlInit_v2(void) { ready = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{ if (!ready || index > 1) return 2; *device = &devices[index]; return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device)
{ if (!ready || strcmp(uuid, "GPU-1")) return 2; *device = &devices[1]; return 0; }
int nvmlDeviceGetUtilizationRates(void *device, rates_t *rates)
{ rates->gpu = *(int *)device; rates->memory = 1; return 0; }
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    (tmp_path / "nvml.c").write_text(SOURCE)
    made = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", made, tmp_path / "nvml.c"], check=True)
    monkeypatch.setenv(LIBRARY, str(made))


@pytest.mark.parametrize(("visible", "share"), [("0", 0.07), ("1", 0.93), ("1,0", 0.93), ("GPU-1", 0.93)])
def test_the_share_is_that_of_the_first_visible_gpu(library, monkeypatch, visible, share):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gauge = Gauge()
    deadline = time.monotonic() + 10
    while (found := gauge.share()) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found == pytest.approx(share)


@pytest.mark.parametrize("visible", ["7", "GPU-9"])
def test_a_gpu_that_is_not_there_has_no_share(library, monkeypatch, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Gauge().share() is None


def test_no_driver_no_share(tmp_path, monkeypatch):
    monkeypatch.setenv(LIBRARY, str(tmp_path / "none.so"))
    assert Gauge().share() is None
