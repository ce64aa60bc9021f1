"""NVML's calls against a library with its signatures; without one there is no metric, and no zero."""

from __future__ import annotations

import subprocess

import pytest
from watching import Watched, parsed, value

from pipeline.engine.nvml import LIBRARY
from pipeline.telemetry import gpu
from pipeline.telemetry.live import Live
from pipeline.telemetry.samples import text

SOURCE = """
typedef struct { unsigned gpu, memory; } rates_t;
typedef struct { unsigned long long total, free, used; } memory_t;
static int devices[2] = {7, 93};
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{ if (index > 1) return 2; *device = &devices[index]; return 0; }
int nvmlDeviceGetUtilizationRates(void *device, rates_t *rates)
{ if (!device) return 2; rates->gpu = *(int *)device; return 0; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory)
{ if (!device) return 2; memory->total = 100ULL << 30; memory->used = 10ULL << 30; return 0; }
"""


@pytest.fixture(autouse=True)
def _anew():
    gpu._nvml.cache_clear()
    yield
    gpu._nvml.cache_clear()


def test_each_gpu_that_answers_is_told(watched: Watched, tmp_path, monkeypatch) -> None:
    (tmp_path / "nvml.c").write_text(SOURCE)
    made = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", made, tmp_path / "nvml.c"], check=True)
    monkeypatch.setenv(LIBRARY, str(made))
    assert gpu.gpus() == (gpu.Gpu(0, 0.07, 10 << 30), gpu.Gpu(1, 0.93, 10 << 30))
    live = Live()
    live.on(watched.recorder.events[0])
    found = parsed(text(live.samples()))
    assert value(found, "gpu_busy_ratio", gpu="1") == 0.93
    assert value(found, "gpu_memory_used_bytes", gpu="0") == 10 << 30


@pytest.mark.parametrize("library", ["/nowhere/libnvidia-ml.so.1", "libc.so.6"])
def test_without_a_driver_the_metric_is_absent(library, watched: Watched, monkeypatch) -> None:
    monkeypatch.setenv(LIBRARY, library)
    assert gpu.gpus() == ()
    live = Live()
    live.on(watched.recorder.events[0])
    assert b"gpu" not in text(live.samples())
