"""Kernels as libraries: what Numba would give, without Numba, whatever lies on the disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler to link with")

ROOT = Path(__file__).parents[2]
SOURCE = """
import numpy as np
from lake.jit import kernel

@kernel
def _factor():
    return {factor}

@kernel
def total(a, weights, scale):
    t = 0.0
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            t += a[i, j] * weights[0][j] * weights[1] * _factor()
    return t * scale

@kernel
def several(a, flag, small, big):
    least = np.empty(a.size, a.dtype)
    least[:] = a
    a[:] = 7
    return (least[0], big), np.float32(0.5), not flag, small, -least.size

@kernel
def nothing(out):
    out[0] += 1

@kernel
def array(n):
    return np.arange(n)

LARGE = np.arange(300_000)

@kernel
def of_large(n):
    return LARGE[n]

@kernel
def nested(n):
    return ((n, n, n, n, n, n), (n, n, n, n, n, n), (n, n, n, n, n, n))

@kernel
def with_default(n, more=3):
    return n + more

@kernel
def refuses(n):
    if n > 2:
        raise ValueError("more than two")
    return np.empty(n, np.uint8).size

@kernel
def unequal(a, b):
    a[:] = b

@kernel
def much(n):
    room = np.empty(n, np.uint8)
    room[0] = 0
    return room[0]
"""
FIRST = "from lake.native import kernels\nimport numpy as np, sys\nm = kernels('m')"
ASK = """
a = np.arange(6, dtype=np.int32).reshape(2, 3)
weights = np.array([1.0, 2.0, 3.0]), np.uint8(2)
print(m.total(a, weights, 0.5), m.total(np.asfortranarray(a), weights, 0.5), m.total(a[:, ::-1], weights, 2))
b = np.array([-3, 4], np.int64)
print(m.several(b, True, np.int16(-5), np.uint64(2**64 - 1)), b)
print(m.nothing(b), b, m.much(100))
"""
TOLD = """34.0 34.0 104.0
((-3, 18446744073709551615), 0.5, False, -5, -2) [7 7]
None [8 7] 0"""
NUMBA = "print('numba' in sys.modules)"


def run(folder: Path, code: str = ASK, first: str = "", **environment: str) -> str:
    """What another process prints."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "NUMBA_CACHE_DIR": "", **environment}
    found = subprocess.run(
        [sys.executable, "-c", f"{first}\n{FIRST}\n{code}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not found.stderr, found.stderr[-800:]
    return found.stdout.strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module whose kernels lie on disk as libraries."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "m.py").write_text(SOURCE.format(factor=1))
    assert run(folder) == TOLD
    return folder


@pytest.fixture
def module(made: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-rp", f"{made}/.", str(tmp_path)], check=True)
    return tmp_path


@pytest.fixture
def unlinked(module: Path) -> Path:
    """A copy where Numba's own code lies, and no library."""
    for library in libraries(module):
        library.unlink()
    return module


def libraries(folder: Path, name: str = "*") -> list[Path]:
    return sorted((folder / "__pycache__").glob(f"m.{name}-*.so"))


def test_a_library_is_run_without_numba(module: Path) -> None:
    assert len(libraries(module)) == 6  # three for `total`
    assert run(module, ASK + NUMBA) == f"{TOLD}\nFalse"


def test_a_library_is_run_while_another_thread_imports_the_compiler(module: Path) -> None:
    halfway = "import sys, types; sys.modules['lake.jit'] = types.ModuleType('lake.jit')"
    assert run(module, first=halfway) == TOLD


def test_numba_gives_the_same(module: Path) -> None:
    assert run(module, "import m\n" + ASK) == TOLD


def test_without_a_linker(unlinked: Path) -> None:
    assert run(unlinked, PATH="") == TOLD
    assert not libraries(unlinked)


def test_without_a_compiler(unlinked: Path) -> None:
    assert run(unlinked, "print(m.much(100))", NUMBA_DISABLE_JIT="1") == "0"
    assert not libraries(unlinked)


def test_a_linker_that_fails(unlinked: Path) -> None:
    linker = unlinked / "bin" / "cc"
    linker.parent.mkdir()
    linker.write_text("#!/bin/sh\necho no such file: crti.o >&2\nexit 1\n")
    linker.chmod(0o755)
    assert run(unlinked, PATH=str(linker.parent)) == TOLD
    assert not libraries(unlinked)
    assert not list((unlinked / "__pycache__").glob("*.turn"))


@pytest.mark.parametrize("kept", [0, 0.3, 0.99])
def test_a_library_that_is_cut_off_is_made_anew(module: Path, kept: float) -> None:
    for library in libraries(module):
        whole = library.read_bytes()
        library.write_bytes(whole[: int(kept * len(whole))])
    assert run(module) == TOLD
    assert run(module, ASK + NUMBA) == f"{TOLD}\nFalse"


def test_a_library_with_one_wrong_byte_is_made_anew(module: Path) -> None:
    for library in libraries(module):
        whole = bytearray(library.read_bytes())
        whole[len(whole) // 2] ^= 1
        library.write_bytes(whole)
    assert run(module) == TOLD


def test_another_source_is_other_code(module: Path) -> None:
    before = libraries(module, "total")
    (module / "m.py").write_text(SOURCE.format(factor=10))
    assert run(module).startswith("340.0 340.0 1040.0")
    assert len(libraries(module, "total")) == len(before) == 3  # what was there before has gone
    assert not set(before) & set(libraries(module, "total"))


def test_a_module_that_was_changed_after_its_import_makes_no_library(unlinked: Path) -> None:
    changed = f"""
import m as early
from pathlib import Path
Path({str(unlinked / "m.py")!r}).write_text({SOURCE.format(factor=10)!r})
"""
    assert run(unlinked, first=changed) == TOLD  # by the code that it has
    assert not libraries(unlinked)
    assert run(unlinked).startswith("340.0 340.0 1040.0")
    back = changed.replace(repr(SOURCE.format(factor=10)), repr(SOURCE.format(factor=1)))
    assert run(unlinked, first=f"import m\n{back}").startswith("340.0")


def test_a_constant_of_another_module_of_the_package_is_part_of_the_source(tmp_path: Path) -> None:
    package = tmp_path / "p"
    package.mkdir()
    (package / "constants.py").write_text("LIMIT = 5\n")
    (package / "m.py").write_text(
        "from lake.jit import kernel\nfrom p.constants import LIMIT\n\n"
        "@kernel\ndef limit(a):\n    return a + LIMIT\n"
    )
    code = "print(kernels('p.m').limit(1), __import__('p.m').m.limit(1))"
    assert run(tmp_path, code) == "6 6"
    (package / "constants.py").write_text("LIMIT = 500\n")
    assert run(tmp_path, code) == "501 501"


def test_settings_of_numba_are_other_code(module: Path) -> None:
    before = set(libraries(module))
    assert run(module, NUMBA_OPT="1") == TOLD
    assert before < set(libraries(module))


def test_a_process_that_is_killed_while_it_links(unlinked: Path) -> None:
    killed = "import os, pathlib\npathlib.Path.replace = lambda *given: os._exit(9)"
    assert run(unlinked, first=killed) == ""
    assert run(unlinked) == TOLD
    assert len(libraries(unlinked)) == 6


def test_a_disk_that_is_full(unlinked: Path) -> None:
    full = """
import pathlib
def full(*given):
    raise OSError(28, "No space left on device")
pathlib.Path.write_bytes = full
"""
    assert run(unlinked, first=full) == TOLD
    kept = {path.suffix for path in (unlinked / "__pycache__").iterdir()}
    assert kept <= {".nbi", ".nbc", ".pyc"}  # no half of a library


def test_of_two_that_begin_at_once_one_links(unlinked: Path) -> None:
    linker = unlinked / "bin" / "cc"
    linker.parent.mkdir()
    linker.write_text(
        f'#!/bin/sh\necho linked >> {unlinked}/log\nexec /usr/bin/env PATH="{os.environ["PATH"]}" cc "$@"\n'
    )
    linker.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": f"{unlinked}:{ROOT}", "NUMBA_CACHE_DIR": ""}
    environment["PATH"] = f"{linker.parent}:{environment['PATH']}"
    command = [sys.executable, "-c", f"{FIRST}\n{ASK}"]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == [TOLD, TOLD]
    assert (unlinked / "log").read_text().split() == ["linked"] * 6
    assert not list((unlinked / "__pycache__").glob("m.*.turn"))


def test_what_words_cannot_hold_is_left_to_numba(unlinked: Path) -> None:
    code = """
print(m.array(3), m.array(3)[2])
c = np.zeros(2, np.complex128)
print(m.nothing(c), c)
odd = np.frombuffer(bytearray(17), np.int64, 2, 1)
print(m.nothing(odd), odd)
"""
    assert run(unlinked, code) == run(unlinked, code) == "[0 1 2] 2\nNone [1.+0.j 0.+0.j]\nNone [1 0]"
    assert not libraries(unlinked)


def test_what_would_not_be_right_in_another_process_is_left_to_numba(unlinked: Path) -> None:
    code = """
import warnings
warnings.simplefilter("ignore")
print(m.of_large(299_999), m.nested(2), m.with_default(1))
"""
    told = "299999 ((2, 2, 2, 2, 2, 2), (2, 2, 2, 2, 2, 2), (2, 2, 2, 2, 2, 2)) 4"
    assert run(unlinked, code) == run(unlinked, code) == told
    assert not libraries(unlinked)


def test_what_numba_refuses_is_refused(module: Path) -> None:
    code = """
def told(call, *given):
    try:
        print(call(*given))
    except Exception as error:
        print(type(error).__name__, str(error).split("\\n")[0])
told(m.refuses, 3)
told(m.refuses, -1)
told(m.refuses, 2**64 + 1)
told(m.unequal, np.zeros(2), np.zeros(3))
given = bytes(8)
told(m.nothing, np.frombuffer(given, np.int64))
told(m.nothing, np.ma.zeros(2))
told(m.nothing, np.timedelta64(1, "D"))
told(m.no_such, 1)
print(given)
"""
    first, then = run(module, code).splitlines(), run(module, code).splitlines()
    assert first[:2] == ["ValueError more than two", "ValueError negative dimensions not allowed"]
    assert {line.split()[0] for line in (first.pop(2), then.pop(2))} <= {"OverflowError", "TypingError"}
    assert "NUMBA_DISABLE_JIT=1" in first[2]
    assert [line.split()[0] for line in first[3:6]] == ["TypingError", "NumbaTypeError", "TypingError"]
    assert first[6].startswith("AttributeError")
    assert first[7] == repr(bytes(8))
    assert then == first


def test_jit_that_is_disabled_in_another_way(unlinked: Path) -> None:
    disabled = "import numba; numba.config.DISABLE_JIT = True"
    assert run(unlinked, "print(m.much(100))", disabled) == "0"
    assert not libraries(unlinked)


def test_a_kernel_can_be_pickled(module: Path) -> None:
    code = "import pickle; m.much(1); print(pickle.loads(pickle.dumps(m.much))(100))"
    assert run(module, code + "\n" + NUMBA) == "0\nFalse"


def test_a_runtime_of_another_kind_is_left_alone(unlinked: Path) -> None:
    other = "from lake import _linking\n_linking._MEMINFO = '{i64, i8*}'"
    assert run(unlinked, first=other) == TOLD
    assert not libraries(unlinked)


def test_a_folder_for_several_sources_keeps_the_libraries_of_each(tmp_path: Path) -> None:
    cached = tmp_path / "cached"
    for factor in (1, 2):
        (tmp_path / str(factor)).mkdir()
        (tmp_path / str(factor) / "m.py").write_text(SOURCE.format(factor=factor))
        run(tmp_path / str(factor), "print(m.much(100))", NUMBA_CACHE_DIR=str(cached))
    assert len(list(cached.glob("m.much-*.so"))) == 2


def test_memory_is_given_back_and_may_be_missing(module: Path) -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
for _ in range(200):
    assert m.much(100 << 20) == 0
try:
    m.much(1 << 40)
except MemoryError as error:
    print(type(error).__name__, "numba" in sys.modules)
"""
    assert run(module, code) == "MemoryError False"
