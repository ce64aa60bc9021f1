"""Run and compile CUDA sources without a GPU: by a C++ compiler, and by NVRTC."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

__all__ = ["ARCHITECTURES", "NEEDS_COMPILER", "compiled", "gpu", "pointer", "ptx", "shared_library"]

COMPILER = shutil.which("g++") or shutil.which("clang++")
NEEDS_COMPILER = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
ARCHITECTURES = (80, 90, 120)
"""Compute capabilities that a source is compiled for: A100, H100, RTX 50."""
HEADER = Path(__file__).with_name("cuda_on_cpu.h")


def gpu() -> Any:
    """Give CuPy where it has a GPU, else None."""
    if importlib.util.find_spec("cupy") is None:
        return None
    import cupy

    return cupy if cupy.is_available() else None


def pointer(array: npt.NDArray[np.generic]) -> ctypes.c_void_p:
    """Give the address of an array's values, as a launcher takes it."""
    return ctypes.c_void_p(array.ctypes.data)


def shared_library(source: Path, launcher: str, into: Path, **macros: int) -> ctypes.CDLL:
    """Compile a CUDA source and a launcher in C++, which calls ``cuda_on_cpu::launch``, for the CPU.

    An index outside of a shared array, and a shift by more than there are bits, end the process.
    """
    name = "-".join([source.stem, *(f"{key}{value}" for key, value in sorted(macros.items()))])
    program, library = into / f"{name}.cpp", into / f"{name}.so"
    program.write_text(f'#include "{HEADER}"\n#include "{source}"\n{launcher}')
    options = [f"-D{key}={value}" for key, value in macros.items()]
    if Path(str(COMPILER)).name == "g++":  # or two libraries with other macros would share their variables
        options.append("-fno-gnu-unique")
    command = [
        str(COMPILER),
        "-std=c++17",
        "-O1",
        "-shared",
        "-fPIC",
        "-fsanitize=bounds,shift",
        "-fsanitize-undefined-trap-on-error",  # else the library would need a runtime
        *options,
        "-o",
        str(library),
        str(program),
    ]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


def ptx(source: Path, architecture: int, **macros: int) -> dict[str, str]:
    """Compile a CUDA source by NVRTC, with the options that CuPy adds: PTX by the kernels' names.

    Functions that are not inlined stand with the first kernel. Skips the test where there is no NVRTC.
    """
    library = _nvrtc()
    if library is None:
        pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc-cu12")
    options = (
        "--std=c++14", "--fmad=false", *(f"-D{key}={value}" for key, value in macros.items()), "-ftz=true",
        "--device-as-default-execution-space", f"-arch=compute_{architecture}",
    )  # fmt: skip
    before, *parts = _ptx(library, source.read_text("utf-8"), *options).split(".entry ")
    found = {part.partition("(")[0]: part for part in parts}
    first = next(iter(found))
    return {**found, first: before + found[first]}


def compiled(source: Path, architecture: int) -> set[str]:
    """Compile a CUDA source by NVRTC and name its kernels; skip the test where there is no NVRTC."""
    return set(ptx(source, architecture))


def _nvrtc() -> ctypes.CDLL | None:
    """Load NVRTC from its wheel, or give None where that is not installed."""
    for name in ("nvidia.cuda_nvrtc", "nvidia.cu13"):
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            continue
        for folder in spec.submodule_search_locations or [] if spec else []:
            for path in sorted(Path(folder).glob("lib/libnvrtc.so.*")):
                return ctypes.CDLL(str(path))
    return None


def _ptx(library: ctypes.CDLL, source: str, *options: str) -> str:
    """Compile a CUDA source to PTX; raise with the compiler's log where that fails."""
    program = ctypes.c_void_p()
    assert library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None) == 0
    words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    code = library.nvrtcCompileProgram(program, len(options), words)
    what = "ProgramLog" if code else "PTX"
    size = ctypes.c_size_t()
    assert getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert getattr(library, f"nvrtcGet{what}")(program, text) == 0
    library.nvrtcDestroyProgram(ctypes.byref(program))
    if code:
        raise RuntimeError(text.value.decode())
    return text.value.decode()
