"""Near-duplicate texts end to end, from a Parquet file to the numbers of the rows that stay: us against peers.

::

    python benchmarks/data.py fetch debian-docs
    python benchmarks/dedup_peers.py --peers PEERS/bin/python [--rounds 3] [--only NAME ...]

Every contender is one process that imports, reads, decides and writes: the whole of its wall time counts. They
take turns; one that needs more than a minute runs once. Peers live in environments of their own (``--peers``,
and ``--peers NAME=PYTHON`` for one that does not get along with the others). One that cannot run is named.

The answers are held against the exact truth of ``truth.py``, over distinct texts (rows with equal texts are
one, which stays if any of its rows stays):

- recall: of the pairs with Jaccard >= 0.8, the share of which not both stay;
- precision: of the texts that went, the share that resembles (>= 0.8) one that stayed;
- wrong: how many went that resemble none that stayed;
- lost: families (connected components of those pairs) of which nothing stayed;
- repeats: rows that stayed though an equal text stayed before them.

Memory is the most that the process and all it started held together (resident sets, twenty times a second);
CPU is what they spent on all cores together, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import data
import numpy as np
import pyarrow.parquet as pq
import truth as exact

from dedup.cluster import components

PEERS = Path(__file__).resolve().parent / "peers"
SLOW = 60.0  # seconds from which one round is enough
# Python keeps compiled modules, ours as those of the peers: a package that is installed has them.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
COLUMNS = ("", "wall s, best (median) of", "CPU s", "peak MiB", "rows kept", "texts gone")
COLUMNS += ("recall", "precision", "wrong", "lost", "repeats")


@dataclass
class Contender:
    """A script of ``peers/`` with its arguments, and what was measured."""

    name: str
    script: str
    package: str
    arguments: tuple[str, ...] = ()
    seconds: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    peak: int = 0
    failed: str = ""
    rows: np.ndarray | None = None
    version: str = ""


def contenders() -> list[Contender]:
    return [
        Contender("Gristmill MinHash", "with_gristmill.py", "gristmill", ("MinHash",)),
        Contender("Gristmill Jaccard", "with_gristmill.py", "gristmill", ("Jaccard",)),
        Contender("Daft, 18 bands of 7", "with_daft.py", "daft", ("18", "7")),
        Contender("Daft, 9 bands of 13", "with_daft.py", "daft", ("9", "13")),
        Contender("gaoya", "with_gaoya.py", "gaoya"),
        Contender("rensa R-MinHash", "with_rensa.py", "rensa", ("R",)),
        Contender("rensa C-MinHash", "with_rensa.py", "rensa", ("C",)),
        Contender("rensa rho", "with_rensa.py", "rensa", ("rho",)),
        Contender("datasketch", "with_datasketch.py", "datasketch"),
        Contender("Data-Juicer", "with_data_juicer.py", "py-data-juicer"),
        Contender("text-dedup", "with_text_dedup.py", "text-dedup"),
        Contender("datatrove", "with_datatrove.py", "datatrove"),
    ]


def python_of(contender: Contender, peers: dict[str, str]) -> str | None:
    if contender.package == "gristmill":
        return sys.executable
    return peers.get(contender.package, peers.get(""))


def version(python: str, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def tree(pid: int, spent: dict[int, float]) -> int:
    """Resident bytes of a process and of all it started, now; notes the processor seconds of each."""
    total, todo = 0, [pid]
    while todo:
        each = todo.pop()
        try:
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1]) * PAGE
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            spent[each] = (int(fields[11]) + int(fields[12])) / TICKS
            for task in Path(f"/proc/{each}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue  # it has just ended
    return total


def calm(patience: float) -> None:
    """Wait until nine tenths of the machine were idle for a second, at most ``patience`` seconds."""

    def idle() -> int:
        return int(Path("/proc/stat").read_text().split()[4])

    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = idle()
        time.sleep(1)
        if idle() - before >= 0.9 * TICKS * (os.cpu_count() or 1):
            return


def run(contender: Contender, python: str, parquet: Path) -> None:
    """One round: its time, its memory, its answer."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "kept.parquet"
        command = [python, "-P", str(PEERS / contender.script), str(parquet), str(out), *contender.arguments]
        with (Path(folder) / "log").open("w+") as log:
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=ENVIRONMENT)
            peaks, ended = [0], threading.Event()
            spent: dict[int, float] = {}

            def watch() -> None:
                while not ended.wait(0.05):
                    peaks.append(tree(process.pid, spent))

            watcher = threading.Thread(target=watch)
            watcher.start()
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            ended.set()
            watcher.join()
            log.seek(0)
            lines = log.read().strip().splitlines()
        if process.returncode or not out.exists():
            contender.failed = lines[-1][:200] if lines else f"exit status {process.returncode}"
            return
        contender.seconds.append(seconds)
        # Workers that a helper process started are nobody's waited children: they count as last seen.
        contender.busy.append(max(usage.ru_utime + usage.ru_stime, sum(spent.values())))
        contender.peak = max(contender.peak, *peaks, usage.ru_maxrss * 1024)
        contender.rows = np.unique(pq.read_table(out).column("row").to_numpy())


def judge(truth: exact.Truth, rows: np.ndarray) -> dict[str, float]:
    """The three measures of an answer, and counts."""
    number = truth.text
    stays = np.zeros(len(number), bool)  # by number of the text: its first row
    stays[number[rows]] = True
    texts = np.unique(number)
    gone = texts[~stays[texts]]
    left, right = truth.left, truth.right
    twin = np.zeros(len(number), bool)
    twin[left[stays[right]]] = True
    twin[right[stays[left]]] = True
    family = components(left, right, len(number))
    members = np.unique(np.concatenate([left, right]))
    saved = np.zeros(len(number), bool)
    saved[family[members[stays[members]]]] = True
    return {
        "kept": len(rows),
        "removed": len(gone),
        "recall": 1.0 - float(np.mean(stays[left] & stays[right])),
        "precision": float(np.mean(twin[gone])) if len(gone) else 1.0,
        "wrong": int(np.count_nonzero(~twin[gone])),
        "lost": int(np.count_nonzero(~saved[np.unique(family[members])])),
        "repeats": len(rows) - int(np.count_nonzero(stays)),
    }


def cell(value: float, places: int = 4) -> str:
    """A share, never rounded up to one."""
    scale = 10**places
    return f"{np.floor(value * scale + 1e-9) / scale:.{places}f}"


def report(found: list[Contender], truth: exact.Truth) -> None:
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|")
    for each in found:
        if each.rows is None:
            continue
        told = judge(truth, each.rows)
        seconds = f"{min(each.seconds):.2f} ({statistics.median(each.seconds):.2f}) of {len(each.seconds)}"
        counts = [f"{told[name]:,.0f}" for name in ("kept", "removed", "wrong", "lost", "repeats")]
        shares = [cell(told["recall"]), cell(told["precision"])]
        machine = [seconds, f"{min(each.busy):.2f}", f"{each.peak >> 20:,}"]
        cells = [f"{each.name} {each.version}", *machine, *counts[:2], *shares, *counts[2:]]
        print("| " + " | ".join(cells) + " |")
    for each in found:
        if each.failed:
            print(f"\n{each.name}: not measured: {each.failed}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parquet", nargs="?", type=Path)
    parser.add_argument("--peers", action="append", default=[], metavar="[NAME=]PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="for an idle machine, at most")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="the start of a contender's name")
    parser.add_argument("--tokens", choices=list(exact.TOKENS), default="words", help="of the truth")
    parser.add_argument("--keep", type=Path, help="keep the answers in this folder")
    asked = parser.parse_args()
    parquet = asked.parquet or data.fetch("debian-docs") / "debian-docs.parquet"
    truth = exact.load(parquet, asked.tokens)
    peers = dict(each.rpartition("=")[::2] for each in asked.peers)
    chosen = [
        each
        for each in contenders()
        if not asked.only or each.name.lower().startswith(tuple(map(str.lower, asked.only)))
    ]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"load before: {os.getloadavg()[0]:.1f}")
    print(
        f"{len(truth.text):,} rows, {len(np.unique(truth.text)):,} texts, {len(truth.left):,} pairs\n",
        flush=True,
    )
    for turn in range(asked.rounds):
        for each in chosen:
            python = python_of(each, peers)
            if python is None:
                each.failed = "no environment was given for it"
            if each.failed or (turn and max(each.seconds) > SLOW):
                continue
            each.version = each.version or version(python, each.package)
            calm(asked.wait)
            run(each, python, parquet)
            says = each.failed or f"{each.seconds[-1]:.2f} s"
            print(
                f"round {turn + 1}: {each.name}: {says}, load {os.getloadavg()[0]:.1f}",
                file=sys.stderr,
                flush=True,
            )
    report(chosen, truth)
    if asked.keep:
        asked.keep.mkdir(parents=True, exist_ok=True)
        for each in chosen:
            if each.rows is not None:
                told = {"seconds": each.seconds, "busy": each.busy, "peak": each.peak, "version": each.version}
                name = each.name.replace(" ", "-")
                np.save(asked.keep / f"{name}.npy", each.rows)
                (asked.keep / f"{name}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
