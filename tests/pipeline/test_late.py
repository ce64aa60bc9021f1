"""Late augmentation, from the configuration to the loader's batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from augment import Apply, Policy
from lake import Files, Lake, images
from pipeline import Pipeline, load

POLICY = Policy.model_validate(
    {
        "name": "mine",
        "subpolicies": [[{"op": "Rotate", "magnitude": [0, 1]}], [{"op": "MixUp", "magnitude": 0.5}]],
    }
)


def pictures(folder: Path, count: int = 12) -> None:
    draw = np.random.default_rng(0)
    for i in range(count):
        path = folder / ("cat" if i % 2 else "dog") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.encode(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)))


def test_rows_name_the_policy_and_the_loader_applies_it(tmp_path: Path) -> None:
    pictures(tmp_path / "photos")
    lake = tmp_path / "lake"
    pipeline = Pipeline(
        name="photos",
        lake=str(lake),
        source=Files(paths=[f"{tmp_path}/photos/**/*.png"]),
        steps=[Apply(policy=POLICY, seed=5, late=True)],
    )
    assert pipeline.run().exit_code == 0
    train = Lake(lake).table("train").to_table()
    assert train.num_rows == 12
    assert set(train.column("_policy").to_pylist()) == {f"{POLICY.digest}/5"}
    loader = load(str(lake), batch_size=4, seed=1)
    first, again = (
        [batch["image"].copy() for batch in load(str(lake), batch_size=4, seed=1)] for _ in range(2)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    originals = {row["_id"]: images.decode(row["image"]) for row in train.to_pylist()}
    changed = sum(
        not np.array_equal(image, originals[_id])
        for batch in loader
        for image, _id in zip(batch["image"], batch["_id"], strict=True)
    )
    assert changed > 6


def test_mixing_needs_a_loader() -> None:
    with pytest.raises(ValueError, match="late: true"):
        Apply(policy=POLICY)
