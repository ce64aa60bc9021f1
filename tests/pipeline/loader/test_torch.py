from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lake.errors import ConfigError, InputError
from lake.lake import Lake
from pipeline.loader import Loader

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

SETTINGS = {"batch_size": 7, "seed": 2, "window": 9000, "policy": "trivial_augment_wide", "classes": "auto"}
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores here


def line(batch) -> str:
    return "\t".join(
        [*batch["_id"], np.asarray(batch["image"]).tobytes().hex(), *map(str, batch["label"].tolist())]
    )


def lines(batches) -> list[str]:
    return [line(batch) for batch in batches]


@pytest.fixture
def wanted(lake: Lake) -> list[list[str]]:
    """Three epochs of the loader alone."""
    loader = Loader(lake, **SETTINGS)
    return [lines(loader) for _ in range(3)]


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_a_dataloader_of_ones_own(lake: Lake, wanted, workers: int) -> None:
    made = torch.utils.data.DataLoader(Loader(lake, **SETTINGS).torch(), batch_size=None, num_workers=workers)
    assert [lines(made) for _ in range(3)] == wanted
    assert len(made) == 15


def test_persistent_workers(lake: Lake, wanted) -> None:
    made = torch.utils.data.DataLoader(
        Loader(lake, **SETTINGS).torch(), batch_size=None, num_workers=2, persistent_workers=True
    )
    assert [lines(made) for _ in range(3)] == wanted


@pytest.mark.slow
def test_workers_that_inherit_nothing(lake: Lake, wanted) -> None:
    loader = Loader(lake, **SETTINGS)
    made = loader.dataloader(2, multiprocessing_context="spawn", persistent_workers=True)
    assert [lines(made) for _ in range(2)] == wanted[:2]


@pytest.mark.parametrize("workers", [0, 2])
def test_set_epoch_reaches_the_workers(lake: Lake, wanted, workers: int) -> None:
    data = Loader(lake, **SETTINGS).torch()
    made = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )
    data.set_epoch(2)
    assert lines(made) == wanted[2]
    data.set_epoch(1)
    assert lines(made) == wanted[1]


@pytest.mark.parametrize("persistent", [False, True])
def test_the_position_moves_along(lake: Lake, wanted, persistent: bool) -> None:
    loader = Loader(lake, **SETTINGS)
    made = loader.dataloader(2, persistent_workers=persistent)
    found = []
    for batch in made:
        found.append(line(batch))
        if len(found) == 4:  # the workers are further by now
            break
    saved = json.loads(json.dumps(loader.state_dict()))
    assert (saved["epoch"], saved["step"]) == (0, 4)
    assert found + lines(made) == wanted[0]
    assert lines(made) == wanted[1]
    for workers in (0, 1, 3):
        again = Loader(lake, **SETTINGS)
        again.load_state_dict(saved)
        made = again.dataloader(workers)
        assert lines(made) == wanted[0][4:]
        assert lines(made) == wanted[1]


@pytest.mark.parametrize("stop", [13, 14, 15])
def test_left_just_before_the_end(lake: Lake, wanted, stop: int) -> None:
    """Workers have finished the epoch when the loop leaves it: it goes on all the same."""
    made = Loader(lake, **SETTINGS).dataloader(2, persistent_workers=True)
    found = []
    for batch in made:
        found.append(line(batch))
        if len(found) == stop:
            break
    rest = [lines(made), lines(made)]
    expected = [wanted[0][stop:], wanted[1]] if stop < 15 else wanted[1:3]
    assert found == wanted[0][:stop]
    assert rest == expected


def test_a_position_from_a_dataloader_of_ones_own(lake: Lake, wanted) -> None:
    loader = Loader(lake, **SETTINGS)
    made = torch.utils.data.DataLoader(loader.torch(), batch_size=None, num_workers=2)
    for _ in made:
        pass
    batch = next(itertools.islice(made, 5, None))
    saved = loader.state_dict(after=batch["_position"])
    assert (saved["epoch"], saved["step"]) == (1, 6)
    again = Loader(lake, **SETTINGS)
    again.load_state_dict(saved)
    assert lines(again.dataloader(1)) == wanted[1][6:]


def test_a_state_that_comes_too_late(lake: Lake) -> None:
    loader = Loader(lake, **SETTINGS)
    made = torch.utils.data.DataLoader(loader.torch(), batch_size=None, num_workers=1, persistent_workers=True)
    next(iter(made))
    made._iterator._shutdown_workers()
    loader.load_state_dict(loader.state_dict())
    data = loader.torch()
    data.loader = Loader(lake, **SETTINGS)
    with pytest.raises(ConfigError, match="while the workers"):
        list(torch.utils.data.DataLoader(data, batch_size=None, num_workers=1))


def test_killed_with_workers(lake: Lake, wanted, tmp_path: Path) -> None:
    """The whole process group is killed after some batches; the next one goes on from the saved state."""
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-P", "-c", VICTIM, lake.uri, str(out), json.dumps(SETTINGS)]
    found: list[str] = []
    for kill_after in (4, None):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        if kill_after is None:
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
        else:
            for _ in range(kill_after):
                assert process.stdout.readline()
            os.killpg(process.pid, 9)
            process.communicate()
        state = json.loads((out / "state.json").read_text())
        written = (out / "stream.txt").read_text().splitlines()
        found = written[: state["epoch"] * 15 + state["step"]]
        (out / "stream.txt").write_text("".join(f"{each}\n" for each in found))
    assert found == wanted[0] + wanted[1]


VICTIM = """
import json, sys, time
from pathlib import Path
import numpy as np
from pipeline.loader import Loader

lake, out, settings = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
loader = Loader(lake, **settings)
state = out / "state.json"
if state.exists():
    loader.load_state_dict(json.loads(state.read_text()))
made = loader.dataloader(2)
while loader.epoch < 2:
    for batch in made:
        line = [*batch["_id"], np.asarray(batch["image"]).tobytes().hex(), *map(str, batch["label"].tolist())]
        with open(out / "stream.txt", "a") as file:
            file.write("\\t".join(line) + "\\n")
        half = out / "half.json"
        half.write_text(json.dumps(loader.state_dict()))
        half.replace(state)
        print("batch", flush=True)
        time.sleep(0.02)
        if loader.epoch == 1 and loader.step == 15:
            break
    if loader.epoch == 1 and loader.step == 15:
        break
"""


def test_tensors(lake: Lake) -> None:
    batch = next(iter(Loader(lake, batch_size=5, dtype="float32", layout="NCHW", classes="auto").dataloader()))
    assert batch["image"].dtype == torch.float32
    assert batch["image"].shape == (5, 3, 8, 8)
    assert batch["label"].dtype == torch.int64
    assert isinstance(batch["_id"], list)
    plain = next(iter(Loader(lake, batch_size=5, dtype="float32", layout="NCHW", classes="auto")))["image"]
    assert torch.from_dlpack(plain).data_ptr() == plain.ctypes.data


def test_a_bad_image_in_a_worker(tmp_path: Path, make_rows, filled) -> None:
    lake, table = Lake(tmp_path / "bad"), make_rows(6)
    images = table["image"].to_pylist()
    images[3] = images[3][:50]
    place = table.column_names.index("image")
    filled(lake, [table.set_column(place, table.schema.field("image"), pa.array(images))])
    with pytest.raises(InputError, match=table["_id"][3].as_py()):
        list(Loader(lake, batch_size=2).dataloader(2))
    for workers in (0, 2):
        loader = Loader(lake, batch_size=2, on_error="skip")
        assert sum(len(batch["_id"]) for batch in loader.dataloader(workers)) == 5
        assert loader.skipped.ids == [table["_id"][3].as_py()]
        assert loader.skipped.rules == {"corrupt-image": 1}


def test_options_that_are_the_loaders(lake: Lake) -> None:
    with pytest.raises(ConfigError, match="shuffle= is the loader's"):
        Loader(lake).dataloader(shuffle=True)


def test_ranks_with_workers(lake: Lake) -> None:
    rows = []
    for rank in range(2):
        loader = Loader(lake, batch_size=5, seed=1).shard(rank, 2)
        rows += [row for batch in loader.dataloader(2) for row in batch["_id"]]
    assert len(rows) == len(set(rows)) == 100
