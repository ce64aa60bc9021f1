from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from augment.late import pin, pinned, unpin
from augment.policy import Policy
from augment.presets import preset
from lake.errors import ConfigError
from lake.images import decode
from lake.lake import Change, Lake
from pipeline.loader import Loader

OWN = Policy(subpolicies=[[{"op": "Rotate", "magnitude": (0, 1)}], [{"op": "Solarize", "magnitude": (0, 1)}]])


def wanted(policy: Policy, table: pa.Table, seed: int, epoch: int) -> dict[str, bytes]:
    pixels = np.stack([decode(blob) for blob in table["image"].to_pylist()])
    images = policy.apply(pixels, table["_id"].to_pylist(), seed=seed, epoch=epoch)
    return {row: image.tobytes() for row, image in zip(table["_id"].to_pylist(), images, strict=True)}


def found(loader: Loader) -> dict[str, bytes]:
    return {
        row: image.tobytes()
        for batch in loader
        for row, image in zip(batch["_id"], batch["image"], strict=True)
    }


def remember(lake: Lake, policy: Policy) -> None:
    """As a run writes it: see ``pipeline.learned``."""
    from pipeline.learned import POLICIES

    row = {"pipeline": "p", "step": "s", "key": "k", "policy": policy.model_dump_json(), "evidence": "{}"}
    part = lake.write_part("_policies", "p", [pa.Table.from_pylist([row], schema=POLICIES)], POLICIES)
    lake.commit([Change("_policies", POLICIES, (part,))], app="policies", version=1)


def test_rows_name_a_preset(tmp_path, make_rows, filled) -> None:
    lake, table = Lake(tmp_path / "late"), make_rows(30)
    filled(lake, [pinned(table, preset("trivial_augment_wide"), 11)])
    loader = Loader(lake, batch_size=7)
    assert "_policy" not in next(iter(Loader(lake)))
    for epoch in range(2):
        assert found(loader) == wanted(preset("trivial_augment_wide"), table, 11, epoch)


def test_rows_name_a_policy_of_the_lake(tmp_path, make_rows, filled) -> None:
    lake, table = Lake(tmp_path / "late"), make_rows(30)
    filled(lake, [pinned(table, OWN, 11)])
    remember(lake, OWN)
    assert found(Loader(lake, batch_size=7)) == wanted(OWN, table, 11, 0)
    assert found(Loader(lake, batch_size=7, seed=3)) == wanted(OWN, table, 3, 0)
    plain = {
        row: decode(blob).tobytes()
        for row, blob in zip(*(table[c].to_pylist() for c in ("_id", "image")), strict=True)
    }
    assert found(Loader(lake, policy=None)) == plain
    assert found(Loader(lake, policy="randaugment", seed=1)) == wanted(preset("randaugment"), table, 1, 0)


def test_rows_of_several_policies(tmp_path, make_rows, filled) -> None:
    lake, table = Lake(tmp_path / "late"), make_rows(30)
    one, two, none = table.slice(0, 10), table.slice(10, 10), table.slice(20)
    nothing = none.append_column(pa.field("_policy", pa.string()), pa.nulls(10, pa.string()))
    filled(lake, [pa.concat_tables([pinned(one, OWN, 1), pinned(two, preset("randaugment"), 2), nothing])])
    remember(lake, OWN)
    everything = wanted(OWN, one, 1, 0) | wanted(preset("randaugment"), two, 2, 0)
    everything |= {
        row: decode(blob).tobytes()
        for row, blob in zip(none["_id"].to_pylist(), none["image"].to_pylist(), strict=True)
    }
    assert found(Loader(lake, batch_size=4)) == everything
    assert found(Loader(lake, batch_size=4, shuffle="full", cache=str(tmp_path / "cache"))) == everything


def test_a_policy_that_nobody_knows(tmp_path, make_rows, filled) -> None:
    lake = Lake(tmp_path / "late")
    filled(lake, [pinned(make_rows(5), OWN, 1)])
    with pytest.raises(ConfigError, match=OWN.digest):
        list(Loader(lake))


def test_the_column_costs_nothing(tmp_path, make_rows, filled) -> None:
    lake, table = Lake(tmp_path / "late"), make_rows(200)
    plain = filled(lake, [table], table="plain", group_bytes=1 << 20)
    assert plain == 1
    filled(lake, [pinned(table, OWN, 1)], table="late", group_bytes=1 << 20, version=2)
    sizes = [lake.table(name).size_bytes for name in ("plain", "late")]
    assert sizes[1] - sizes[0] < 2000


def test_pins() -> None:
    assert unpin(pin(OWN, 2**64 - 1)) == (OWN.digest, 2**64 - 1)
    for text in ("", "x/1", f"{OWN.digest}/-1", f"{OWN.digest}", json.dumps({})):
        with pytest.raises(ConfigError):
            unpin(text)
    with pytest.raises(ConfigError, match="second late policy"):
        pinned(pinned(pa.table({"x": [1]}), OWN, 0), OWN, 0)
