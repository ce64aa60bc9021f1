"""One holder at a time: a kernel lock on local disks, a lease with a heartbeat in object stores.

Locally ``flock`` is sound: the kernel frees it when the holder dies, even by ``kill -9``. In an object
store nobody frees anything, so a lease that has not been renewed for :data:`TTL` seconds may be taken
over. A holder that was frozen for longer (not dead) can then run on beside its successor: the lease
saves work, it does not protect the tables. That protection is the strict commit, which refuses the
second of two writers with :class:`ConcurrentRunError` whatever the locks say; deleting, which no commit
guards, looks again at what is needed (:mod:`lake.maintenance.cleaning`).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lake.errors import ConcurrentRunError, StorageError
from lake.storage import TEMPORARY, Storage, guard

__all__ = ["FOLDER", "TTL", "holders", "lock", "unused"]

FOLDER = "_locks"
TTL = 60.0
"""Seconds without a heartbeat after which a lease in an object store may be taken over."""

_POLL = 0.02  # seconds between two looks at a lock that is held

_log = logging.getLogger(__name__)


@contextmanager
def lock(storage: Storage, name: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold ``name`` in this lake for the length of a ``with`` block.

    Args:
        storage: the lake's files.
        name: what is locked, for example a pipeline.
        wait: seconds to wait for the present holder.

    Raises:
        ConcurrentRunError: somebody else holds it; says who and since when.
    """
    path = f"{FOLDER}/{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"
    held = _kernel_lock(storage, path, name, wait) if storage.local else _lease(storage, path, name, wait)
    with held:
        yield


def _me() -> bytes:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    who = {"pid": os.getpid(), "host": socket.gethostname(), "space": _space(), "since": since}
    return json.dumps(who).encode()


def _space() -> str | None:
    """Where a process's number means something: the namespace of this boot; containers have one each."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116  (a link into no file system)
    except OSError:
        return None  # no Linux


def _here(who: dict[str, Any]) -> bool:
    """Whether the holder's process, if there still is one, is among those that this one sees."""
    return bool(who["host"] == socket.gethostname() and who.get("space") == _space())


def _taken(storage: Storage, name: str, holder: bytes, path: str) -> ConcurrentRunError:
    try:
        who = json.loads(holder)
        why = f"process {who['pid']} on {who['host']} has held it since {who['since']}"
    except (ValueError, KeyError, TypeError):
        # Read between the holder's truncating and writing.
        why = "another process has just taken it"
    return ConcurrentRunError(
        f"{name!r} is locked by another run",
        where=storage.address(path),
        why=why,
        hint="wait until it has finished, or stop it; the lock of a dead process frees itself",
    )


@contextmanager
def _kernel_lock(storage: Storage, path: str, name: str, wait: float) -> Iterator[None]:
    file = Path(storage.inner(path))
    deadline = time.monotonic() + wait
    while (handle := _try(storage, path, file)) is None:
        if time.monotonic() >= deadline:
            raise _taken(storage, name, storage.claimed(path) or b"", path)
        time.sleep(_POLL)
    try:
        with guard(storage.address(path)):
            os.ftruncate(handle, 0)
            os.pwrite(handle, _me(), 0)
        try:
            yield
        finally:
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)  # the file stays: whoever waits has it open


def _try(storage: Storage, path: str, file: Path) -> int | None:
    """Take the kernel's lock of a file; None where somebody else has it, or where the file was swept up."""
    with guard(storage.address(path)):
        file.parent.mkdir(parents=True, exist_ok=True)
        return _locked(file, os.O_RDWR | os.O_CREAT)


def _locked(file: Path, flags: int) -> int | None:
    handle = os.open(file, flags | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The lock of a file that `unused` deleted meanwhile is worth nothing: others take its successor's.
        if _inode(file) == os.fstat(handle).st_ino:
            return handle
    except BlockingIOError:
        pass
    os.close(handle)
    return None


def _inode(file: Path) -> int | None:
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return None


def holders(storage: Storage) -> list[tuple[str, float]]:
    """Who is at work: the name of each lock that is held, and since when, in seconds since the epoch.

    Never short of one; a holder that died on another machine or in another container that shares the disk is
    listed until its lock is taken again.
    """
    found = []
    for path in _names(storage):
        last = None if storage.local else _held_generation(storage, path)
        holder = storage.claimed(path) if storage.local else last and storage.claimed(f"{path}/{last:012d}")
        with suppress(ValueError, KeyError, TypeError):
            who = json.loads(holder or b"")
            if not _here(who) or _alive(int(who["pid"])):
                found.append((path.rpartition("/")[2], datetime.fromisoformat(who["since"]).timestamp()))
    return found


def _names(storage: Storage) -> list[str]:
    if not storage.local:
        return [f"{FOLDER}/{name}" for name in storage.folders(FOLDER)]
    found = (entry.path for entry in storage.entries(FOLDER, recursive=False))
    return [path for path in found if not path.rpartition("/")[2].startswith(TEMPORARY)]


def _held_generation(storage: Storage, path: str) -> int | None:
    last = (_generations(storage, path) or [0])[-1]
    return last if last and not _free(storage, path, last) else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def unused(storage: Storage, cutoff: float, *, dry_run: bool = False) -> list[str]:
    """Delete the files of local locks that nobody has taken since ``cutoff`` (seconds since the epoch).

    In an object store they stay: the number of the last generation is in them.

    Returns:
        Their paths.
    """
    gone: list[str] = []
    for path in _names(storage) if storage.local else ():
        file = Path(storage.inner(path))
        if storage.modified(path) >= cutoff:
            continue
        with suppress(FileNotFoundError), guard(storage.address(path)):
            if (handle := _locked(file, os.O_RDONLY if dry_run else os.O_RDWR)) is not None:
                if not dry_run:
                    file.unlink()  # under the lock, and whoever waits for it looks whether it is still there
                os.close(handle)
                gone.append(path)
    return gone


@contextmanager
def _lease(storage: Storage, path: str, name: str, wait: float) -> Iterator[None]:
    generation = _acquire(storage, path, name, wait)
    beat, stop = f"{path}/{generation:012d}.beat", threading.Event()

    def renew() -> None:
        while not stop.wait(TTL / 4):
            try:
                storage.write(beat, b"alive")
            except StorageError as error:
                # The next beat may get through; if none does, the lease runs out, which is its purpose.
                _log.warning("could not renew the lease %r: %s", name, error.why)

    thread = threading.Thread(target=renew, name=f"lease-{name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        storage.write(f"{path}/{generation:012d}.done", b"released")
        if _generations(storage, path)[-1] != generation:
            _log.warning("lost the lease %r while it was held: its holder was frozen for over %g s", name, TTL)


def _acquire(storage: Storage, path: str, name: str, wait: float) -> int:
    """Claim the generation after the last, if that one is released or its heartbeat has stopped."""
    deadline = time.monotonic() + wait
    while True:
        last = (_generations(storage, path) or [0])[-1]
        mine = last + 1
        if (not last or _free(storage, path, last)) and storage.claim(f"{path}/{mine:012d}", _me()):
            storage.write(f"{path}/{mine:012d}.beat", b"alive")
            # A slow claimer may have got a number that had been used and swept up meanwhile.
            if _generations(storage, path)[-1] == mine:
                _sweep(storage, path, mine)
                return mine
            storage.unclaim(f"{path}/{mine:012d}")
        if time.monotonic() >= deadline:
            holder = storage.claimed(f"{path}/{last:012d}") or b""
            raise _taken(storage, name, holder, path)
        time.sleep(0.2)


def _generations(storage: Storage, path: str) -> list[int]:
    numbers = (claim.rpartition("/")[2] for claim in storage.claims(path))
    return sorted(int(number) for number in numbers if number.isdigit())


def _free(storage: Storage, path: str, generation: int) -> bool:
    files = {entry.path: entry for entry in storage.entries(path, recursive=False)}
    if f"{path}/{generation:012d}.done" in files:
        return True
    beat = files.get(f"{path}/{generation:012d}.beat")
    # Both times are the store's own: the clocks of the two machines need not agree.
    probe = f"{path}/{os.getpid()}-{threading.get_ident()}.probe"
    storage.write(probe, b"now")
    times = {entry.path: entry.modified for entry in storage.entries(path)}
    storage.delete(probe)
    first = f"{path}/{generation:012d}/"
    born = max((when for file, when in times.items() if file.startswith(first)), default=0.0)
    return times[probe] - max(beat.modified if beat else 0.0, born) > TTL


def _sweep(storage: Storage, path: str, mine: int) -> None:
    for generation in _generations(storage, path):
        if generation < mine:
            storage.unclaim(f"{path}/{generation:012d}")
            for ending in ("beat", "done"):
                storage.delete(f"{path}/{generation:012d}.{ending}")
