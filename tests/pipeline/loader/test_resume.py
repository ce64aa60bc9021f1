from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lake.errors import ConfigError
from lake.lake import Lake
from pipeline.loader import Loader, decode

SETTINGS = {"batch_size": 6, "seed": 2, "window": 9000, "policy": "trivial_augment_wide"}

VICTIM = """
import json, sys, time
from pathlib import Path
from typing import Any
from pipeline.loader import Loader
lake, out, settings = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
loader = Loader(lake, **settings)
state = out / "state.json"
if state.exists():
    loader.load_state_dict(json.loads(state.read_text()))
while loader.epoch < 2:
    for batch in loader:
        line = "\\t".join([*batch["_id"], batch["image"].tobytes().hex()])
        with open(out / "stream.txt", "a") as file:
            file.write(line + "\\n")
        half = out / "half.json"
        half.write_text(json.dumps(loader.state_dict()))
        half.replace(state)
        print("batch", flush=True)
        time.sleep(0.01)
"""


def line(batch: dict[str, Any]) -> str:
    return "\t".join([*batch["_id"], batch["image"].tobytes().hex()])


def lines(loader: Loader) -> list[str]:
    return [line(batch) for batch in loader]


@pytest.mark.parametrize("shuffle", ["window", "full"])
def test_killed_and_started_again(lake: Lake, tmp_path: Path, shuffle: str) -> None:
    settings = {**SETTINGS, "shuffle": shuffle, "cache": str(tmp_path / "cache")}
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-P", "-c", VICTIM, lake.uri, str(out), json.dumps(settings)]
    for kill_after in (9, None):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if kill_after is None:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            break
        for _ in range(kill_after):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        # What was written after the last saved state is given again, as a trainer would see it.
        state = json.loads((out / "state.json").read_text())
        done = state["epoch"] * 17 + state["step"]
        written = (out / "stream.txt").read_text().splitlines()
        assert done <= len(written) <= done + 1
        (out / "stream.txt").write_text("".join(f"{line}\n" for line in written[:done]))
    loader = Loader(lake, **settings)
    assert (out / "stream.txt").read_text().splitlines() == lines(loader) + lines(loader)


@pytest.mark.parametrize("stop", [0, 1, 8, 16, 17])
def test_a_state_goes_through_json(lake: Lake, stop: int) -> None:
    whole = Loader(lake, **SETTINGS)
    wanted = lines(whole) + lines(whole)
    first = Loader(lake, **SETTINGS)
    found: list[str] = []
    found += itertools.islice((line(batch) for batch in first), stop)
    saved = json.loads(json.dumps(first.state_dict()))
    second = Loader(lake, **SETTINGS)
    second.load_state_dict(saved)
    while len(found) < len(wanted):
        found += lines(second)
    assert found == wanted


def test_skipped_images_are_not_decoded(lake: Lake, monkeypatch) -> None:
    loader = Loader(lake, batch_size=6, seed=2, prefetch=0)
    state = loader.state_dict()
    count = 0
    plain = decode.decode

    def counting(blob, **options):
        nonlocal count
        count += 1
        return plain(blob, **options)

    monkeypatch.setattr(decode, "decode", counting)
    loader = Loader(lake, batch_size=6, seed=2, prefetch=0, decoder="pillow")
    loader.load_state_dict({**state, "step": 15})
    assert sum(len(batch["_id"]) for batch in loader) == 10
    assert count == 10


def test_skipped_row_groups_are_not_read(lake: Lake, monkeypatch) -> None:
    loader = Loader(lake, batch_size=10, shuffle="none")
    read = []
    plain = loader._source.read
    monkeypatch.setattr(loader._source, "read", lambda group, rows: read.append(group) or plain(group, rows))
    loader.load_state_dict({**loader.state_dict(), "step": 9})
    assert sum(len(batch["_id"]) for batch in loader) == 10
    assert min(read) == 11


def test_the_version_comes_with_the_state(lake: Lake, make_rows, filled) -> None:
    loader = Loader(lake, **SETTINGS)
    it = iter(loader)
    next(it)
    saved = loader.state_dict()
    rest = [line(batch) for batch in it]
    filled(lake, [make_rows(10, first=200)], version=2)
    later = Loader(lake, **SETTINGS)
    assert later.version == 2
    later.load_state_dict(saved)
    assert later.version == 1
    assert lines(later) == rest
    with pytest.raises(ConfigError, match="given version 2"):
        Loader(lake, version=2, **SETTINGS).load_state_dict(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 3}, "seed was 2, is 3"),
        ({"window": 8000}, "window was 9000, is 8000"),
        ({"shuffle": "none"}, "shuffle was 'window'"),
        ({"policy": None}, "policy was"),
        ({"spread": 2}, "spread was 1"),
    ],
)
def test_another_stream_is_refused(lake: Lake, change, words) -> None:
    saved = Loader(lake, **SETTINGS).state_dict()
    with pytest.raises(ConfigError) as caught:
        Loader(lake, **{**SETTINGS, **change}).load_state_dict(saved)
    assert words in str(caught.value)


def test_another_policy_may_pass(lake: Lake) -> None:
    saved = Loader(lake, **SETTINGS).state_dict()
    Loader(lake, **{**SETTINGS, "policy": "randaugment"}).load_state_dict(saved, strict=False)
    with pytest.raises(ConfigError, match="seed"):
        Loader(lake, **{**SETTINGS, "seed": 5}).load_state_dict(saved, strict=False)


@pytest.mark.parametrize(("world", "batch_size"), [(1, 12), (2, 6), (4, 3), (3, 4)])
@pytest.mark.parametrize("by", ["batch", "stretch"])
def test_other_ranks_go_on(lake: Lake, world: int, batch_size: int, by: str) -> None:
    """Three steps on two ranks, then on others: no row lost, none twice; by batch, the same rows a step."""
    settings = {**SETTINGS, "by": by}
    before = [Loader(lake, **settings).shard(rank, 2) for rank in range(2)]
    seen = []
    for loader in before:
        it = iter(loader)
        seen += [row for _ in range(3) for row in next(it)["_id"]]
    saved = before[0].state_dict()
    after = [Loader(lake, **{**settings, "batch_size": batch_size}).shard(rank, world) for rank in range(world)]
    streams = []
    for loader in after:
        loader.load_state_dict(saved)
        streams.append([batch["_id"].tolist() for batch in loader])
        assert loader.epoch == 1
    rest = [row for each in streams for batch in each for row in batch]
    assert sorted(seen + rest) == sorted(lake.table("train").to_table(["_id"])["_id"].to_pylist())
    if by == "batch":
        steps = [batch["_id"].tolist() for batch in Loader(lake, **{**settings, "batch_size": 12})][3:]
        found = [[row for each in streams if s < len(each) for row in each[s]] for s in range(len(steps))]
        assert found == steps


def test_a_break_goes_on(lake: Lake) -> None:
    loader = Loader(lake, **SETTINGS)
    seen = []
    for batch in loader:
        seen += batch["_id"].tolist()
        if len(seen) > 20:
            break
    for batch in loader:
        seen += batch["_id"].tolist()
    assert len(seen) == len(set(seen)) == 100
    assert (loader.epoch, loader.step) == (1, 0)


@pytest.mark.parametrize(("window", "frozen"), [(9000, "19722a31fa96aedf"), (1 << 20, "0c4c942697644048")])
def test_the_digest_of_a_stream_is_frozen(lake: Lake, window: int, frozen: str) -> None:
    """Order and ids alone: pixels are the augmentation's business. Small windows go by the files' bytes."""
    loader = Loader(lake, batch_size=6, seed=2, window=window)
    text = "".join(row for batch in loader for row in batch["_id"])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == frozen
