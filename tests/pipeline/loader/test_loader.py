from __future__ import annotations

import hashlib
import itertools
import logging
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import pipeline
from augment import Policy
from augment.presets import preset
from lake.errors import ConfigError, InputError, MissingPartError, MissingTableError, SchemaError
from lake.images import decode
from lake.lake import Change, Lake
from pipeline.loader import Loader

POLICY = "trivial_augment_wide"


def stream(batches: Any) -> dict[str, bytes]:
    """The bytes of every row's image, by id."""
    return {
        row: np.ascontiguousarray(image).tobytes()
        for batch in batches
        for row, image in zip(batch["_id"], batch["image"], strict=True)
    }


def ids(batches: Any) -> list[str]:
    return [row for batch in batches for row in batch["_id"]]


def digest(batches: Any) -> str:
    """Of everything that a stream gives, whatever its cutting."""
    h = hashlib.sha256()
    for batch in batches:
        names = sorted(batch)
        for i in range(len(batch["_id"])):
            for name in names:
                value = batch[name][i]
                h.update(
                    name.encode() + (value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
                )
    return h.hexdigest()


def test_all_rows_with_their_columns(lake: Lake) -> None:
    table = lake.table("train").to_table()
    loader = Loader(lake, batch_size=16, shuffle="none", columns=["image", "label", "score", "text"])
    batches = list(loader)
    assert [len(batch["_id"]) for batch in batches] == [16] * 6 + [4]
    assert len(loader) == 7
    for name in ("_id", "label", "text", "score"):
        assert np.concatenate([batch[name] for batch in batches]).tolist() == table[name].to_pylist()
    pixels = np.concatenate([batch["image"] for batch in batches])
    assert np.array_equal(pixels, np.stack([decode(blob) for blob in table["image"].to_pylist()]))
    assert pixels.dtype == np.uint8
    assert loader.rows == 100


@pytest.mark.parametrize("batch_size", [1, 7, 256])
@pytest.mark.parametrize("threads", [1, 4])
def test_rows_do_not_depend_on_batches_and_threads(lake: Lake, batch_size: int, threads: int) -> None:
    loader = Loader(lake, batch_size=batch_size, threads=threads, seed=3, policy=POLICY, window=9000)
    loader.set_epoch(2)
    found = list(loader)
    reference = Loader(lake, batch_size=10, threads=2, seed=3, policy=POLICY, window=9000, prefetch=0)
    reference.set_epoch(2)
    assert digest(found) == digest(reference)


def test_an_epoch_is_the_policys_epoch(lake: Lake) -> None:
    """The engine's own answer for the whole table is the oracle."""
    table = lake.table("train").to_table(["_id", "image"])
    pixels = np.stack([decode(blob) for blob in table["image"].to_pylist()])
    for epoch in (0, 1):
        wanted = preset(POLICY).apply(pixels, table["_id"].to_pylist(), seed=9, epoch=epoch)
        loader = Loader(lake, batch_size=13, seed=9, policy=POLICY)
        loader.set_epoch(epoch)
        found = stream(loader)
        assert found == {
            row: image.tobytes() for row, image in zip(table["_id"].to_pylist(), wanted, strict=True)
        }


@pytest.mark.parametrize("shuffle", ["window", "full", "none"])
def test_every_row_once_in_the_published_order(lake: Lake, shuffle: str, tmp_path) -> None:
    loader = Loader(lake, batch_size=9, shuffle=shuffle, window=7000, seed=1, cache=str(tmp_path / "copy"))
    table_ids = lake.table("train").to_table(["_id"])["_id"].to_pylist()
    for epoch in range(2):
        order = loader.order()
        assert loader.epoch == epoch
        assert ids(loader) == [table_ids[row] for row in order]
        assert sorted(order.tolist()) == list(range(100))
    same = Loader(lake, batch_size=5, shuffle=shuffle, window=7000, seed=1).order(1)
    assert np.array_equal(same, order)


def test_a_spread_window_gives_every_row_once(lake: Lake) -> None:
    loader = Loader(lake, batch_size=9, window=7000, spread=3)
    assert sorted(ids(loader)) == sorted(lake.table("train").to_table(["_id"])["_id"].to_pylist())


def test_the_version_is_pinned(lake: Lake, make_rows, filled) -> None:
    loader = Loader(lake, batch_size=50)
    filled(lake, [make_rows(10, first=200)], version=2)
    assert loader.version == 1
    assert loader.rows == 100
    assert len(ids(loader)) == 100
    assert Loader(lake).rows == 110
    assert Loader(lake, version=1).rows == 100
    with pytest.raises(MissingTableError, match="no version 7"):
        Loader(lake, version=7)


def test_ranks_share_an_epoch(lake: Lake) -> None:
    whole = Loader(lake, batch_size=12, seed=5, window=9000, policy=POLICY)
    together: dict[str, bytes] = {}
    for rank in range(3):
        mine = stream(Loader(lake, batch_size=4, seed=5, window=9000, policy=POLICY, rank=rank, world=3))
        assert not set(mine) & set(together)
        together |= mine
    assert together == stream(whole)
    whole.set_epoch(0)
    shards = [
        Loader(lake, batch_size=4, seed=5, window=9000, policy=POLICY).shard(rank, 3) for rank in range(3)
    ]
    for batch, *parts in itertools.zip_longest(whole, *shards):
        assert ids(part for part in parts if part is not None) == batch["_id"].tolist()


def test_padded_ranks(lake: Lake) -> None:
    seen: list[str] = []
    for rank in range(3):
        batches = list(Loader(lake, batch_size=16, last="pad", rank=rank, world=3))
        assert [len(batch["_id"]) for batch in batches] == [16] * 3
        seen += [row for b in batches for row, again in zip(b["_id"], b["_repeated"], strict=True) if not again]
    assert len(seen) == len(set(seen)) == 100


@pytest.mark.parametrize("condition", [pc.field("nope") == 1, pc.field("label") == 1, pc.scalar(1)])
def test_a_filter_that_does_not_fit_says_so(lake: Lake, condition: pc.Expression) -> None:
    with pytest.raises(SchemaError, match="the filter does not fit the table") as caught:
        Loader(lake, filter=condition)
    assert "label" in str(caught.value)


def test_a_filter_of_no_column(lake: Lake) -> None:
    assert ids(Loader(lake, filter=pc.scalar(value=True))) == ids(Loader(lake))
    assert not ids(Loader(lake, filter=pc.scalar(value=False)))


def test_a_filter_and_classes(lake: Lake) -> None:
    loader = Loader(lake, batch_size=8, filter=pc.field("label") != "owl", classes="auto", window=5000)
    batches = list(loader)
    assert loader.classes == ("cat", "dog")
    assert loader.rows == 67 == sum(len(batch["label"]) for batch in batches)
    table = lake.table("train").to_table(["_id", "label"])
    label = dict(zip(table["_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    for batch in batches:
        assert batch["label"].dtype == np.int64
        assert [loader.classes[n] for n in batch["label"]] == [label[row] for row in batch["_id"]]
    with pytest.raises(InputError, match="not among classes"):
        list(Loader(lake, classes=["cat", "dog"]))


def test_mixed_sizes_are_a_list(tmp_path, make_rows, filled) -> None:
    lake = Lake(tmp_path / "mixed")
    filled(lake, [pa.concat_tables([make_rows(3, side=8), make_rows(3, first=3, side=5)])])
    batch = next(iter(Loader(lake, batch_size=6, shuffle="none", policy=POLICY)))
    assert [image.shape for image in batch["image"]] == [(8, 8, 3)] * 3 + [(5, 5, 3)] * 3
    batch = next(iter(Loader(lake, batch_size=6, size=6)))
    assert batch["image"].shape == (6, 6, 6, 3)


def test_texts_pass(tmp_path, make_rows, filled) -> None:
    lake = Lake(tmp_path / "texts")
    filled(lake, [make_rows(20, images=False)])
    batches = list(Loader(lake, batch_size=6, columns=["text", "label"]))
    assert sorted(text for batch in batches for text in batch["text"]) == sorted(
        f"text number {i}" for i in range(20)
    )
    assert set(batches[0]) == {"_id", "text", "label"}
    assert next(iter(Loader(lake, batch_size=6)))["image"] == [None] * 6


class Shout:
    """A policy for texts, as the loader sees one."""

    def apply(self, images, ids, *, seed, epoch):
        return images

    def apply_texts(self, texts, ids, *, seed, epoch):
        return [f"{text} {row[:4]} {seed} {epoch}" for text, row in zip(texts, ids, strict=True)]


def test_a_policy_for_texts(lake: Lake) -> None:
    loader = Loader(lake, batch_size=30, policy=Shout(), seed=4, columns=["text"])
    loader.set_epoch(6)
    for batch in loader:
        assert all(
            text.endswith(f" {row[:4]} 4 6") for text, row in zip(batch["text"], batch["_id"], strict=True)
        )


def test_our_policies_for_texts(lake: Lake) -> None:
    from augment.text import apply_texts

    policy = Policy(subpolicies=[[{"op": "RandomSwap", "magnitude": 0.5}]])
    table = lake.table("train").to_table(["_id", "text"])
    wanted = apply_texts(
        policy, table["text"].to_pylist(), table["_id"].to_pylist(), seed=3, epoch=1
    ).to_pylist()
    loader = Loader(lake, batch_size=9, policy=policy, seed=3)
    loader.set_epoch(1)
    found = {row: text for batch in loader for row, text in zip(batch["_id"], batch["text"], strict=True)}
    assert found == dict(zip(table["_id"].to_pylist(), wanted, strict=True))
    assert wanted != table["text"].to_pylist()
    loader.set_epoch(1)
    assert stream(loader) == stream(Loader(lake))


def broken(make_rows) -> pa.Table:
    table = make_rows(20)
    images = table["image"].to_pylist()
    images[7] = images[7][:40]
    images[11] = b"no image at all"
    return table.set_column(table.column_names.index("image"), table.schema.field("image"), pa.array(images))


def test_a_bad_image_is_named(tmp_path, make_rows, filled) -> None:
    lake, table = Lake(tmp_path / "bad"), broken(make_rows)
    filled(lake, [table])
    row = table["_id"][7].as_py()
    with pytest.raises(InputError, match=f"the image of row {row} cannot be read") as caught:
        list(Loader(lake, batch_size=4, shuffle="none"))
    assert "version 1" in str(caught.value)
    assert "on_error" in str(caught.value)


def test_bad_images_are_counted(tmp_path, make_rows, filled) -> None:
    lake, table = Lake(tmp_path / "bad"), broken(make_rows)
    filled(lake, [table])
    loader = Loader(lake, batch_size=4, shuffle="none", on_error="skip", policy=POLICY)
    batches = list(loader)
    assert [len(batch["image"]) for batch in batches] == [4, 3, 3, 4, 4]
    assert loader.skipped.count == 2
    assert loader.skipped.rules == {"corrupt-image": 1, "unsupported-image": 1}
    assert loader.skipped.ids == [table["_id"][7].as_py(), table["_id"][11].as_py()]
    assert [batch["_skipped"].tolist() for batch in batches] == [
        [],
        loader.skipped.ids[:1],
        loader.skipped.ids[1:],
        [],
        [],
    ]


def test_padding_and_bad_images(tmp_path, make_rows, filled) -> None:
    lake, table = Lake(tmp_path / "bad"), broken(make_rows)
    filled(lake, [table])
    batches = list(Loader(lake, batch_size=8, shuffle="none", on_error="skip", last="pad"))
    assert [len(batch["_repeated"]) for batch in batches] == [7, 7, 8]
    assert [len(batch["_id"]) for batch in batches] == [7, 7, 8]
    assert batches[2]["_repeated"].tolist() == [False] * 4 + [True] * 4
    assert batches[0]["_repeated"].dtype == bool


def test_vectors(tmp_path, make_rows, filled) -> None:
    lake, table = Lake(tmp_path / "vectors"), make_rows(6)
    vectors = [[float(i), i / 2, 1.0] for i in range(6)]
    uneven = [list(range(i)) for i in range(6)]
    table = table.append_column(
        pa.field("v", pa.list_(pa.float32())), pa.array(vectors, pa.list_(pa.float32()))
    )
    table = table.append_column(pa.field("u", pa.list_(pa.int64())), pa.array(uneven, pa.list_(pa.int64())))
    filled(lake, [table])
    batch = next(iter(Loader(lake, batch_size=6, shuffle="none")))
    assert batch["v"].dtype == np.float32
    assert batch["v"].tolist() == vectors
    assert batch["u"].tolist() == uneven


def test_a_batch_of_bad_images_only(tmp_path, make_rows, filled) -> None:
    lake, table = Lake(tmp_path / "bad"), broken(make_rows)
    filled(lake, [table])
    batches = list(Loader(lake, batch_size=1, shuffle="none", on_error="skip", size=4, dtype="float32"))
    assert len(batches) == 20
    assert len(batches[7]["image"]) == len(batches[7]["_id"]) == 0


def test_a_vacuumed_part(lake: Lake) -> None:
    loader = Loader(lake, batch_size=50)
    lake.storage.delete(f"train/{lake.table('train').parts()[0].path}")
    with pytest.raises(MissingPartError, match="gone"):
        list(loader)
    with pytest.raises(MissingPartError, match="gone"):
        Loader(lake)


MIXING = Policy(subpolicies=[[{"op": "MixUp", "magnitude": (0, 1)}], [{"op": "CutMix", "magnitude": (0, 1)}]])


@pytest.mark.parametrize("batch_size", [2, 18, 64])
def test_rows_are_mixed_with_their_neighbours(lake: Lake, batch_size: int) -> None:
    loader = Loader(lake, batch_size=batch_size, policy=MIXING, seed=4, classes="auto")
    table = lake.table("train").to_table()
    rows = loader.order()
    pixels = np.stack([decode(table["image"][int(row)].as_py()) for row in rows])
    names = [table["_id"][int(row)].as_py() for row in rows]
    labels = [loader.classes.index(table["label"][int(row)].as_py()) for row in rows]
    beside = np.arange(100) ^ 1
    wanted, shares = MIXING.apply(pixels, names, seed=4, epoch=0, partners=pixels[beside])
    batches = list(loader)
    assert np.array_equal(np.concatenate([batch["image"] for batch in batches]), wanted)
    assert np.array_equal(np.concatenate([batch["_mix_share"] for batch in batches]), shares)
    assert np.concatenate([b["_mix_id"] for b in batches]).tolist() == [names[i] for i in beside]
    assert np.concatenate([b["_mix_label"] for b in batches]).tolist() == [labels[i] for i in beside]
    assert shares.max() > 0.1


def test_mixing_on_ranks(lake: Lake) -> None:
    whole = stream(Loader(lake, batch_size=12, policy=MIXING))
    parts = [stream(Loader(lake, batch_size=4, policy=MIXING, rank=rank, world=3)) for rank in range(3)]
    assert parts[0] | parts[1] | parts[2] == whole


def test_mixing_beside_a_bad_image(tmp_path, make_rows, filled) -> None:
    lake, table = Lake(tmp_path / "bad"), broken(make_rows)
    filled(lake, [table])
    batches = list(Loader(lake, batch_size=4, shuffle="none", on_error="skip", policy=MIXING))
    assert batches[1]["_mix_id"].tolist() == [table["_id"][i].as_py() for i in (5, 4, 6)]


@pytest.mark.parametrize("settings", [{"batch_size": 5}, {"by": "stretch"}])
def test_neighbours_in_different_batches(lake: Lake, settings) -> None:
    with pytest.raises(ConfigError, match="different batches"):
        list(Loader(lake, policy=MIXING, **settings))


def test_neighbours_of_different_shapes(tmp_path, make_rows, filled) -> None:
    lake = Lake(tmp_path / "mixed")
    filled(lake, [pa.concat_tables([make_rows(3, side=8), make_rows(3, first=3, side=5)])])
    with pytest.raises(ConfigError, match="differ in shape"):
        list(Loader(lake, batch_size=6, shuffle="none", policy=MIXING))
    batch = next(iter(Loader(lake, batch_size=6, policy=MIXING, size=6, augment_at="size")))
    assert batch["image"].shape == (6, 6, 6, 3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shuffle": "yes"}, "shuffle='yes'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"rank": 2, "world": 2}, "rank=2 of world=2"),
        ({"normalize": (0.5, 0)}, "normalize="),
        ({"normalize": 0.5}, "normalize=0.5"),
        ({"normalize": (0.5,)}, "(mean, std)"),
        ({"normalize": (float("nan"), 1.0)}, "normalize="),
        ({"size": (0, 3)}, "size="),
        ({"size": (224,)}, "(height, width)"),
        ({"size": "224"}, "size='224'"),
        ({"columns": "text"}, 'columns=["a", "b"]'),
        ({"classes": "cat"}, "classes='cat'"),
        ({"classes": ["cat", "cat"]}, "twice"),
        ({"filter": "label == 1"}, "pyarrow.compute.field"),
        ({"mask": 3}, "given: 3"),
        ({"least_visible": "all"}, "share of 0 .. 1"),
        ({"batchsize": 3}, "does not have"),
        ({"policy": "randaugmnt"}, "randaugmnt"),
        ({"policy": 5}, "policy= is a int"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5"),
    ],
)
def test_wrong_arguments(lake: Lake, settings, words) -> None:
    with pytest.raises(ConfigError) as caught:
        Loader(lake, **settings)
    assert words in str(caught.value)


def test_no_such_column_or_table(lake: Lake) -> None:
    with pytest.raises(SchemaError, match="no column 'pixels'"):
        Loader(lake, columns=["pixels"])
    with pytest.raises(MissingTableError):
        Loader(lake, "test")


def test_copies_and_a_policy(tmp_path, make_rows, filled) -> None:
    lake = Lake(tmp_path / "copies")
    table = make_rows(6)
    filled(lake, [table.append_column(pa.field("_copy", pa.int32()), pa.array([0, 1] * 3, pa.int32()))])
    with pytest.raises(ConfigError, match="augmented copies already"):
        Loader(lake, policy=POLICY)
    assert len(ids(Loader(lake, policy=POLICY, filter=pc.field("_copy") == 0))) == 3
    assert len(ids(Loader(lake))) == 6


def test_columns_that_older_files_lack(lake: Lake, make_rows, filled) -> None:
    newer = make_rows(5, first=300).append_column(pa.field("extra", pa.string()), pa.array(list("vwxyz")))
    filled(lake, [newer], version=2)
    values = [value for batch in Loader(lake, batch_size=10, shuffle="none") for value in batch["extra"]]
    assert sorted(v for v in values if v is not None) == list("vwxyz")
    assert values.count(None) == 100


def test_an_empty_table(tmp_path, make_rows, filled) -> None:
    lake = Lake(tmp_path / "empty")
    filled(lake, [make_rows(0)])
    for shuffle in ("window", "full", "none"):
        loader = Loader(lake, shuffle=shuffle, cache=str(tmp_path / "cache"))
        assert list(loader) == []
        assert len(loader) == 0


def test_from_a_configuration(lake: Lake, tmp_path) -> None:
    config = tmp_path / "some.yaml"
    config.write_text(
        f"name: some\nlake: {lake.uri}\nsource: {{lake.Files: {{paths: '*.jsonl'}}}}\n"
        "sink: {lake.Table: {name: train}}\n"
    )
    for source in (config, str(config), pipeline.Pipeline.load(config), lake, lake.uri):
        assert pipeline.load(source, batch_size=10).rows == 100


def test_a_loader_travels(lake: Lake) -> None:
    loader = Loader(lake, batch_size=8, policy=POLICY, classes="auto", filter=pc.field("score") > 3)
    again = pickle.loads(pickle.dumps(loader))
    assert digest(again) == digest(loader)


def test_a_copy_of_rows_is_not_taken_for_those_of_a_table_that_was_made_anew(tmp_path: Path) -> None:
    schema = pa.schema([("_id", pa.string()), ("text", pa.string())])
    for word in ("one", "two"):
        shutil.rmtree(tmp_path / "lake", ignore_errors=True)
        made = Lake(tmp_path / "lake")
        rows = pa.table([[f"{i:032x}" for i in range(3)], [f"{word} {i}" for i in range(3)]], schema=schema)
        part = made.write_part("train", "p", [rows], schema)
        made.commit([Change("train", schema, add=(part,))], app="me", version=1)
        loader = Loader(made, shuffle="full", cache=str(tmp_path / "copies"))
        assert sorted(text for batch in loader for text in batch["text"]) == [f"{word} {i}" for i in range(3)]


def test_arrays_are_handed_over_without_a_copy(lake: Lake) -> None:
    image = next(iter(Loader(lake, batch_size=8, dtype="float32", layout="NCHW")))["image"]
    again = np.from_dlpack(image)
    assert again.ctypes.data == image.ctypes.data
    assert image.flags.c_contiguous
    assert image.flags.writeable


def test_a_policy_value_is_taken(lake: Lake) -> None:
    policy = Policy(subpolicies=[[{"op": "Invert"}]])
    plain, inverted = stream(Loader(lake)), stream(Loader(lake, policy=policy))
    assert all(bytes(255 - value for value in plain[row]) == inverted[row] for row in plain)


def test_nothing_is_logged(lake: Lake, caplog) -> None:
    with caplog.at_level(logging.DEBUG):
        list(Loader(lake))
    assert not caplog.records
