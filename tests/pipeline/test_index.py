"""The index of a match: whatever came and went, the decision is that of comparing everything anew."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from small import write_texts

from dedup import Cosine, Jaccard, MinHash, PHash, Pixels
from dedup.match import Match
from dedup.sketch import piece
from lake.errors import SchemaError
from lake.files import Files
from lake.ids import content_ids
from lake.lake import Change, Lake, Part
from pipeline import Pipeline
from pipeline.matching.index import FOLLOWING, Index, part_name

WORDS = [f"word{i}" for i in range(400)]


def texts(count: int, rng: random.Random) -> list[str]:
    """Families of edited texts around a page of boilerplate that all have: crowded buckets, and chains."""
    page = WORDS[:40]
    found: list[list[str]] = []
    while len(found) < count:
        if found and rng.random() < 0.6:
            words = list(rng.choice(found[-20:]))
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        else:
            words = page + rng.choices(WORDS, k=rng.randint(5, 40))
        found.append(words)
    return [" ".join(words) + rng.choice(["", "", "!"]) for words in found]


def table_of(lines: list[str]) -> pa.Table:
    column = pa.array(sorted(set(lines)))
    return pa.table({"_id": content_ids(column, None), "text": column})


class Kept:
    """An index in a lake, and a table of parts that it follows."""

    def __init__(self, folder: Path, match: Match) -> None:
        self.index = Index(Lake(str(folder)), match, "about")
        self.match = match
        self.live: dict[str, pa.Table] = {}
        self.version = 0
        self.compared: list[bool] = []

    def run(self) -> pa.Table:
        """Bring the index up to date, as a stage does; gives the decision."""
        self.version += 1
        index = self.index
        parts = [Part("raw", path, table.num_rows, 1) for path, table in self.live.items()]
        known = index.known(parts)
        new = [part.path not in known.parts for part in parts]
        sketches = {
            part.path: self.match.sketch(self.live[part.path])
            for part, fresh in zip(parts, new, strict=True)
            if fresh
        }
        added = [index.write(part, sketches[part.path]) for part in parts if part.path in sketches]
        pieces = [
            piece(sketches[part.path]) if part.path in sketches else index.read(known.parts[part.path])
            for part in parts
        ]
        pairs, kept = index.compare(pieces, new, known)
        self.compared.append(kept)
        state = index.decide(pieces, pairs, [])
        changes = index.changes(added, known, pairs, kept=kept, name=f"pairs-{self.version}")
        if changes:
            index.lake.commit(changes, app="test", version=self.version)
        assert sum(part.rows for part in index.lake.table(index.edges).parts()) == pairs.num_rows
        return state

    def anew(self) -> pa.Table:
        return self.match.resolve([self.match.sketch(table) for table in self.live.values()])


MATCHES = [
    MinHash(threshold=0.8),
    MinHash(threshold=0.6, bands=(128, 1)),  # hot: everything shares a bucket with everything
    MinHash(threshold=0.7, keep=("-quality", "-length")),
    Jaccard(threshold=0.7),
]


@pytest.mark.parametrize("match", MATCHES, ids=["banded", "hot", "keep", "exact"])
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_comes_and_goes_the_decision_is_that_of_one_run(
    tmp_path: Path, match: Match, seed: int
) -> None:
    rng = random.Random(seed)
    lines = sorted(set(texts(260, rng)))
    rng.shuffle(lines)
    kept = Kept(tmp_path, match)

    def batch(number: int, some: list[str]) -> None:
        table = table_of(some)
        values = [float(int(id_[:4], 16) % 7) for id_ in table.column("_id").to_pylist()]
        kept.live[f"part-{number}.parquet"] = table.append_column("quality", pa.array(values, pa.float64()))

    batch(0, lines[:150])
    assert kept.run().equals(kept.anew())
    batch(1, lines[150:152])
    batch(2, [])
    batch(3, lines[152:180])
    assert kept.run().equals(kept.anew())
    batch(4, lines[180:])
    assert kept.run().equals(kept.anew())
    versions = {name: kept.index.lake.table(name).version for name in kept.index.lake.tables()}
    assert kept.run().equals(kept.anew())  # nothing new: nothing is written
    assert versions == {name: kept.index.lake.table(name).version for name in kept.index.lake.tables()}
    back = kept.live.pop("part-1.parquet"), kept.live.pop("part-4.parquet")
    assert kept.run().equals(kept.anew())  # rows are gone: so is what is known of them
    for name in (kept.index.bands, kept.index.sketches):
        paths = {part.path for part in kept.index.lake.table(name).parts()}
        assert paths == {f"{part_name(Part('raw', path, 0, 0))}.parquet" for path in kept.live}
    kept.live["part-5.parquet"] = back[1]
    state = kept.run()
    assert state.equals(kept.anew())
    assert state.num_rows > 20


def test_a_small_batch_is_compared_with_what_shares_a_bucket_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = MinHash()
    kept = Kept(tmp_path, match)
    rng = random.Random(3)
    kept.live["a.parquet"] = table_of([" ".join(rng.choices(WORDS, k=80)) for _ in range(500)])
    kept.run()
    kept.live["b.parquet"] = table_of([kept.live["a.parquet"].column("text")[7].as_py() + " more"])
    sizes = []
    verify = MinHash.verify
    monkeypatch.setattr(
        MinHash, "verify", lambda self, corpus, *args: sizes.append(len(corpus)) or verify(self, corpus, *args)
    )
    assert kept.run().num_rows == 1
    assert sizes[0] < 100
    assert kept.compared[-1]


@pytest.mark.parametrize(("words", "kept_pairs"), [(20, True), (90, False)], ids=["last", "first"])
def test_a_crowded_bucket_is_compared_anew_only_where_its_first_rows_change(
    tmp_path: Path, words: int, kept_pairs: bool
) -> None:
    match = MinHash(threshold=0.5, bands=(4, 1))  # the page alone makes a bucket of most
    kept = Kept(tmp_path, match)
    rng = random.Random(4)

    def page(extra: int) -> str:
        return " ".join(WORDS[:60] + rng.choices(WORDS, k=extra))

    kept.live["a.parquet"] = table_of([page(rng.randint(30, 60)) for _ in range(150)])
    assert kept.run().equals(kept.anew())
    kept.live["b.parquet"] = table_of([page(words) for _ in range(10)])  # the longest come first
    assert kept.run().equals(kept.anew())
    assert kept.compared[-1] is kept_pairs


def test_an_index_part_of_another_version_is_refused(tmp_path: Path) -> None:
    kept = Kept(tmp_path, MinHash())
    kept.live["a.parquet"] = table_of(["one two three four five six"])
    kept.run()
    index = kept.index
    [old] = index.lake.table(index.bands).parts()
    table = index.lake.table(index.bands)
    rows = [*table.read_part(old)]
    # A foreign hand: the same name and columns, made by other settings.
    index.lake.commit([Change(index.bands, table.schema(), (), (old,))], app="foreign", version=1)
    part = index.lake.write_part(
        index.bands, old.path.removesuffix(".parquet"), rows, table.schema(), notes={"sketch": '{"spec": 1}'}
    )
    index.lake.commit([Change(index.bands, table.schema(), (part,))], app="foreign", version=2)
    with pytest.raises(SchemaError, match="other settings") as caught:
        kept.run()
    assert "delete the tables" in caught.value.hint
    assert '"spec": 1' in caught.value.why


def run(folder: Path, *overrides: str) -> None:
    Pipeline.load(folder / "small.yaml", overrides).run()


def paths(lake: Lake, table: str) -> set[str]:
    return {part.path for part in lake.table(table).parts()}


def rows(lake: Lake, table: str) -> list[str]:
    return sorted(map(str, lake.table(table).to_table().to_pylist()))


def test_a_new_file_leaves_the_parts_of_the_others_as_they_are(corpus: Path) -> None:
    write_texts(corpus / "later", files=8)
    run(corpus)
    lake = Lake(str(corpus / "lake"))
    before = {name: paths(lake, name) for name in ("clean", "train")}
    (corpus / "later" / "part-7.jsonl").rename(corpus / "texts" / "part-7.jsonl")
    run(corpus)
    for name, old in before.items():
        stayed = old & paths(lake, name)
        assert len(stayed) >= len(old) - 2, name  # those whose rows the new ones displaced
        assert len(paths(lake, name)) == len(old) + 1
    run(corpus, f"lake={corpus / 'once'}")
    for name in ("clean", "train"):
        assert rows(lake, name) == rows(Lake(str(corpus / "once")), name)


def test_a_table_that_was_rolled_back_takes_the_index_with_it(corpus: Path) -> None:
    from deltalake import DeltaTable

    write_texts(corpus / "later", files=8)
    run(corpus)
    lake = Lake(str(corpus / "lake"))
    version, once = lake.table("raw").version, rows(lake, "clean")
    sketches = {name: lake.table(name).count() for name in lake.tables() if name.startswith("_sketches_")}
    for name in ("part-6.jsonl", "part-7.jsonl"):
        (corpus / "later" / name).rename(corpus / "texts" / name)
    run(corpus)
    assert rows(lake, "clean") != once
    DeltaTable(lake.table("raw").uri).restore(version)
    run(corpus)
    assert rows(lake, "clean") == once
    assert sketches == {name: lake.table(name).count() for name in sketches}


def test_the_index_of_an_option_that_was_changed_is_emptied(corpus: Path) -> None:
    def tables(lake: Lake) -> dict[str, int]:
        return {name: lake.table(name).count() for name in lake.tables() if name.startswith("_bands_")}

    run(corpus)
    lake = Lake(str(corpus / "lake"))
    [(name, count)] = tables(lake).items()
    assert count > 0
    run(corpus, "steps.2.ngram=3")
    assert tables(lake)[name] == 0
    assert sum(tables(lake).values()) > 0


@pytest.mark.parametrize("exact", [True, False])
def test_embeddings_that_come_in_batches(tmp_path: Path, exact: bool) -> None:
    kept = Kept(tmp_path, Cosine(threshold=0.95, exact=exact))
    rng = np.random.default_rng(1)
    base = rng.normal(size=(60, 32))
    rows = base[rng.integers(0, 60, 150)] + 0.1 * rng.normal(size=(150, 32))
    table = pa.table(
        {"_id": [f"{n:032x}" for n in range(150)], "embedding": pa.array(list(rows), pa.list_(pa.float64()))}
    )
    for number, (start, size) in enumerate([(0, 90), (90, 3), (93, 57)]):
        kept.live[f"{number}.parquet"] = table.slice(start, size)
        assert kept.run().equals(kept.anew())
    kept.live.pop("1.parquet")
    assert kept.run().equals(kept.anew())
    assert kept.run().num_rows > 20


@pytest.mark.parametrize("match", [PHash(), Pixels()], ids=["phash", "pixels"])
def test_pictures_that_come_in_batches(tmp_path: Path, match: Match) -> None:
    rng = np.random.default_rng(2)
    kept = Kept(tmp_path, match)
    seen = [rng.integers(0, 256, (6, 6), dtype=np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(12)]

    def file(pixels: np.ndarray, kind: str) -> bytes:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, kind)
        return out.getvalue()

    images = [file(pixels, kind) for pixels in seen for kind in ("PNG", "BMP", "TIFF")]
    ids = content_ids(None, pa.array(images)).cast(pa.string())
    table = pa.table({"_id": ids, "image": images}).take(rng.permutation(36))
    for number, (start, size) in enumerate([(0, 20), (20, 2), (22, 14)]):
        kept.live[f"{number}.parquet"] = table.slice(start, size)
        assert kept.run().equals(kept.anew())
    assert kept.run().num_rows == 24


def test_a_picture_that_comes_before_others_of_its_hash_is_compared_as_in_one_run(tmp_path: Path) -> None:
    """Pictures of one grey and many colours have one hash: the first 32 of them stand for the others."""
    rng = np.random.default_rng(0)
    grey = rng.integers(60, 180, (8, 8)).repeat(8, axis=0).repeat(8, axis=1)

    def picture(red: int) -> bytes:
        green = -round(19595 * red / 38470)
        file = io.BytesIO()
        Image.fromarray(np.stack([grey + red, grey + green, grey], axis=2).astype(np.uint8)).save(file, "PNG")
        return file.getvalue()

    def part(numbers: range, reds: list[int]) -> pa.Table:
        ids = [f"{number:032x}" for number in numbers]
        return pa.table({"_id": ids, "image": pa.array(map(picture, reds), pa.binary())})

    kept = Kept(tmp_path, PHash(crops=False, keep=("_id",)))
    kept.live["a.parquet"] = part(range(1, 34), [*range(-60, 2, 2), 60, 60])
    assert kept.run().equals(kept.anew())
    kept.live["b.parquet"] = part(range(34, 35), [-60])  # behind the first 32: nothing else changes
    assert kept.run().equals(kept.anew())
    assert kept.compared == [False, True]
    kept.live["c.parquet"] = part(range(1), [-1])
    assert kept.run().equals(kept.anew())
    assert kept.compared == [False, True, False]


def test_maintenance_of_the_whole_lake_leaves_the_index_with_its_parts(corpus: Path) -> None:
    run(corpus)
    lake = Lake(str(corpus / "lake"))
    following = {name: paths(lake, name) for name in lake.tables() if name.startswith(FOLLOWING)}
    assert len(following) == 2
    command = [
        str(Path(sys.executable).with_name("gristmill")),
        "maintain",
        "compact",
        "--lake",
        lake.uri,
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not any(name in done.stdout for name in following)
    assert following == {name: paths(lake, name) for name in following}
    once = rows(lake, "clean")
    write_texts(corpus / "texts", files=7)  # one more; all parts of raw have other names by now
    run(corpus)
    run(corpus, f"lake={corpus / 'once'}")
    assert rows(lake, "clean") == rows(Lake(str(corpus / "once")), "clean") != once


def test_a_table_without_any_part_before_and_after_there_are_some(tmp_path: Path) -> None:
    kept = Kept(tmp_path, MinHash())
    assert kept.run().num_rows == 0
    words = " ".join(WORDS[:50])
    kept.live["a.parquet"] = table_of([words, words + "!"])
    assert kept.run().num_rows == 1
    kept.live.clear()
    assert kept.run().num_rows == 0
    assert kept.index.lake.table(kept.index.bands).count() == 0
    kept.live["b.parquet"] = table_of([words, words + "?"])
    assert kept.run().num_rows == 1


def test_a_source_of_which_no_row_can_be_read_is_a_run_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("no json\n")
    pipeline = Pipeline(
        name="none",
        lake=str(tmp_path / "lake"),
        allowed_rejects=1.0,
        source=Files(paths=str(tmp_path / "rows.jsonl"), text="text"),
        steps=[MinHash(), Jaccard()],
    )
    assert pipeline.run().status == "ok"
    assert pipeline.lake.table("train").count() == 0
