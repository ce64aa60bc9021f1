"""Work on a lake in processes that kill themselves: forgetful.py LAKE WORK EVERY (forget ID | run CONFIG).

One process is forked for each EVERY-th moment: before and after each file that is written, claimed or deleted,
and each table that is committed. A second one then does the same again, undisturbed. Prints how many moments of
how many were tried.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from small import contents

from lake.delta import pending
from lake.lake import Lake
from lake.storage import LocalStorage
from pipeline import Pipeline, engine
from pipeline.forget.forget import forget


class Count:
    """Kills the process at the n-th moment."""

    def __init__(self, last: int | None) -> None:
        self.now = 0
        self.last = last

    def tick(self) -> None:
        self.now += 1
        if self.now == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, holder: Any, name: str) -> None:
        inner: Callable[..., Any] = getattr(holder, name)

        def counted(*args: Any, **keywords: Any) -> Any:
            self.tick()
            done = inner(*args, **keywords)
            self.tick()
            return done

        setattr(holder, name, counted)


def work(lake: str, verb: str, what: str) -> list[str]:
    """Do it; gives where a forgotten id was found."""
    if verb == "forget":
        proof = forget(Lake(lake), [what], purge=True, reason="test").proof
        return list(proof.found) if proof else ["?"]
    Pipeline.load(what, [f"lake={lake}"]).run(runner=engine.local(1))
    return []


def attempt(lake: str, verb: str, what: str, out: Path, last: int | None) -> None:
    """Count the moments, and write down what the lake holds in the end."""
    count = Count(last)
    for name in ("write", "staging", "claim", "unclaim", "delete", "delete_folder"):
        count.around(LocalStorage, name)
    count.around(pending, "commit_table")
    left = work(lake, verb, what)
    found: dict[str, Any] = contents(lake)
    if "_forgotten" in found:
        found["_forgotten"] = [json.loads(row)["digest"] for row in found["_forgotten"]]
    out.write_text(json.dumps({"moments": count.now, "contents": found, "left": left}))


def forked(*args: Any) -> int:
    child = os.fork()
    if child == 0:
        try:
            attempt(*args)
        except BaseException as error:  # noqa: BLE001  (a child must not go on as its parent)
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(template: str, folder: str, every: int, verb: str, what: str) -> None:
    out, lake = Path(folder, "out.json"), Path(folder, "lake")
    shutil.copytree(template, lake)
    assert forked(str(lake), verb, what, out, None) == 0
    undisturbed = json.loads(out.read_text())
    tried = 0
    for moment in range(1, undisturbed["moments"] + 1, every):
        shutil.rmtree(lake)
        shutil.copytree(template, lake)
        killed = forked(str(lake), verb, what, out, moment)
        assert killed == -signal.SIGKILL, (moment, killed)
        assert forked(str(lake), verb, what, out, None) == 0, moment
        ended = json.loads(out.read_text())
        assert ended["contents"] == undisturbed["contents"], moment
        assert ended["left"] == [], (moment, ended["left"])
        tried += 1
    sys.stdout.write(f"{tried} {undisturbed['moments']}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
