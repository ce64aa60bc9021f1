"""What the pages show equals what the tables hold."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from augment import Policy
from lake import Lake, ledger
from lake.errors import ConfigError, InputError, MissingTableError
from lake.lake import Change
from pipeline.cli import cli
from pipeline.ui.charts import bars, flow
from pipeline.ui.data import costs, drops, families, health, lineage, overview, policies, runs
from pipeline.ui.paging import Place
from pipeline.ui.site import Site
from pipeline.upkeep import maintain
from pipeline.why import why

SCHEMA = pa.schema([pa.field("n", pa.int64()), pa.field("kind", pa.string())])


def soon(make):
    """The value once it is there."""
    until = time.monotonic() + 60
    while getattr(found := make(), "pending", False):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def site(lake: Lake) -> Site:
    return Site(lake, show_content=True)


# --------------------------------------------------------------------------------------------- views


def test_overview(site: Site) -> None:
    found = overview.overview(site)
    assert [line.name for line in found.tables] == site.lake.tables()
    for line in found.tables:
        table = site.lake.table(line.name)
        assert (line.rows, line.version, line.bytes) == (table.count(), table.version, table.size_bytes)
        assert line.files == len(table.parts())
    assert {line.name for line in found.of("data")} == {"raw", "clean", "train"}
    assert found.run is not None
    assert found.run.line.run == runs.runs(site).lines[0].run


def test_runs_by_pages(site: Site) -> None:
    every = runs.runs(site)
    assert every.total == len(every.lines) == 2
    first = runs.runs(site, most=1)
    second = runs.runs(site, first.next, most=1)
    assert first.lines + second.lines == every.lines
    assert second.next is None
    assert every.lines[0].started >= every.lines[1].started


def test_a_run_adds_up(site: Site) -> None:
    for line in runs.runs(site).lines:
        found = runs.run(site, line.run)
        assert found.figures.adds_up
        assert found.line == line
    last = runs.latest(site)
    assert last is not None
    assert last.line.kept == site.lake.table("clean").count()
    derived = [step for step in last.figures.steps if step.stage != "ingest"]
    rows = site.lake.table("_drops").to_table(columns=["stage"]).to_pylist()
    assert sum(step.dropped for step in derived) == sum(row["stage"] != "ingest" for row in rows)


@pytest.mark.parametrize("name", ["", ".", "..", "../..", "x/../../y", "nope", "a" * 300, "\x00", "%2e%2e"])
def test_a_run_that_is_none(site: Site, name: str) -> None:
    with pytest.raises(InputError):
        runs.run(site, name)


def test_labels_are_counted_unless_content_is_shown(lake: Lake) -> None:
    bare, shown = Site(lake), Site(lake, show_content=True)
    name = runs.runs(bare).lines[0].run
    [hidden], [open_] = (runs.run(each, name).record["learned"].values() for each in (bare, shown))
    assert hidden["classes"] == len(open_["classes"]) == 3
    assert open_["classes"] == ["lying", "slanted", "upright"]
    [one] = policies.policies(bare).rows
    assert one.evidence["classes"] == 3


def test_half_a_record_is_passed_over(copied: Lake) -> None:
    folder = Path(copied.uri) / "_reports"
    (folder / "29990101T000000-aaaaaa").mkdir()
    (folder / "29990102T000000-aaaaaa").mkdir()
    (folder / "29990102T000000-aaaaaa" / "run.json").write_text('{"run": "29990102')
    site = Site(copied)
    assert len(runs.runs(site).lines) == 2
    assert runs.latest(site) is not None


def test_drops_are_the_ledger(site: Site) -> None:
    found, at = [], None
    while True:
        one = drops.drops(site, at, size=7)
        found += one.rows
        if one.next is None:
            break
        at = Place.read(one.next)
    want = site.lake.table("_drops").to_table().to_pylist()
    assert len(found) == len(want) == one.total
    for row, wanted in zip(found, want, strict=True):
        assert (row.id, row.step, row.rule) == (wanted["_id"], wanted["step"], wanted["rule"])
        assert (row.value, row.twin, row.label) == (wanted["value"], wanted["twin"], wanted["label"])


def test_drops_are_shown_while_they_are_counted(lake: Lake) -> None:
    busy, go = Site(lake), threading.Event()
    names = ("one", "two")
    for name in names:
        assert busy.memory.soon(name, go.wait, 0) is None  # all that works in the background is taken
    early = drops.drops(busy)
    assert early.pending
    assert early.rows
    assert not early.counts
    assert early.counted == 0
    go.set()
    assert all(busy.memory.soon(name, go.wait, 20) for name in names)
    late = soon(lambda: drops.drops(busy))
    assert late.rows == early.rows
    assert late.counted == late.total == sum(count.rows for count in late.counts)


def test_drops_by_rule(site: Site) -> None:
    every = soon(lambda: drops.drops(site, size=1000))
    counts = Counter((row.pipeline, row.stage, row.step, row.rule) for row in every.rows)
    assert every.counted == every.total
    assert {(c.pipeline, c.stage, c.step, c.rule): c.rows for c in every.counts} == counts
    for (pipeline, stage, step, rule), rows in counts.items():
        keep = {"pipeline": pipeline, "stage": stage, "step": step, "rule": rule}
        some = drops.drops(site, keep=keep, size=1000).rows
        assert len(some) == rows
        assert {row.rule for row in some} == {rule}
    assert drops.drops(site, keep={"rule": "no such rule"}).rows == []


def test_drops_without_content(lake: Lake) -> None:
    for row in drops.drops(Site(lake), size=1000).rows:
        assert row.label is None
        assert row.meta is None


def test_a_row_as_why_tells_it(site: Site) -> None:
    for row in drops.drops(site, size=1000).rows[::9]:
        if row.id is not None:
            assert soon(lambda row=row: drops.fates(site, row.id)).fates == why(site.lake, row.id)
    bare = soon(lambda: drops.fates(Site(site.lake), row.id))
    assert "label" not in json.dumps(bare.to_dict())


@pytest.mark.parametrize("row", ["", "zz", "ffffffffffff", "x" * 2000, "../../etc/passwd:1", "\ud800"])
def test_a_row_that_is_none(site: Site, row: str) -> None:
    with pytest.raises((InputError, MissingTableError)):
        soon(lambda: drops.fates(site, row))


def test_families_as_the_command_lists_them(site: Site) -> None:
    config = Path(site.lake.uri).parent / "gristmill.yaml"
    done = CliRunner().invoke(cli, ["dedup", "clusters", str(config), "--json"])
    want = [json.loads(line) for line in done.stdout.splitlines()]
    found = soon(lambda: families.families(site, size=1000))
    assert found.total == len({row["family"] for row in want})
    assert found.rows == len(want)
    sizes = Counter(row["family"] for row in want)
    assert [family.rows for family in found.families] == sorted(sizes.values(), reverse=True)
    for family in found.families:
        whole = soon(lambda family=family: families.family(site, None, family.name))
        mine = {row["_id"]: row for row in want if row["family"] == family.name}
        assert {member.id: member.kept for member in whole.members} == {i: r["kept"] for i, r in mine.items()}
        assert {member.twin for member in whole.members} == {row["twin"] for row in mine.values()}
    first, second = families.families(site, first=0, size=2), families.families(site, first=2, size=2)
    assert first.families + second.families == found.families[:4]


def test_a_family_side_by_side(site: Site) -> None:
    found = soon(lambda: families.families(site))
    whole = families.family(site, None, found.families[0].name)
    raw = {row["_id"]: row for row in site.lake.table("raw").to_table().to_pylist()}
    for member in whole.members:
        assert member.text == raw[member.id]["text"]
        assert member.label == raw[member.id]["label"]
    bare = Site(site.lake)
    soon(lambda: families.families(bare))
    assert all(
        member.text is None and member.source for member in families.family(bare, None, whole.name).members
    )


def test_too_many_pairs_are_not_worked_out(lake: Lake, monkeypatch) -> None:
    monkeypatch.setattr(families, "MOST_PAIRS", 3)
    found = soon(lambda: families.families(Site(lake)))
    assert found.families == []
    assert "gristmill dedup clusters" in found.why


def test_a_family_that_is_none(site: Site) -> None:
    with pytest.raises(InputError):
        soon(lambda: families.family(site, None, "f" * 32))
    with pytest.raises(InputError):
        families.families(site, "small/9 dedup.Nothing")


def test_lineage_is_what_the_logs_say(site: Site) -> None:
    found = lineage.lineage(site)
    assert [stop.name for stop in found.stops] == ["raw", "clean", "train"]
    for stop in found.stops:
        assert stop.version == site.lake.table(stop.name).version
        assert stop.rows == site.lake.table(stop.name).count(stop.version)
    by_run = {
        (commit.info["run"], name): commit.version
        for name in ("raw", "clean", "train")
        for commit in site.lake.table(name).history()
        if commit.info
    }
    for made in found.made:
        for name in made.new:
            assert made.versions[name] == by_run[made.line.run, name]
    before = lineage.lineage(site, found.made[-1].line.run)
    assert before.stops[0].rows == site.lake.table("raw").count(before.stops[0].version)


def test_the_flow_is_in_proportion(site: Site) -> None:
    found = lineage.lineage(site, lineage.lineage(site).made[-1].line.run)
    bands = flow(found)
    assert [band.stop.name for band in bands] == ["raw", "clean", "train"]
    for band in bands:
        assert band.before == band.stop.rows - band.stop.made + band.stop.dropped
        assert bool(band.dropped) == bool(band.stop.dropped)
        assert bool(band.made) == bool(band.stop.made)


def test_files_are_the_manifest(site: Site) -> None:
    found, at = [], None
    while True:
        one = lineage.files(site, at, size=5)
        found += one.rows
        if one.next is None:
            break
        at = Place.read(one.next)
    want = site.lake.table(ledger.FILES_TABLE).to_table(columns=["uri", "rows"]).to_pylist()
    key = lambda row: (row["uri"], row["rows"])  # noqa: E731
    assert sorted(map(key, found)) == sorted(map(key, want))
    assert found[0]["uri"].endswith("late.jsonl")


def test_policies_in_words(site: Site) -> None:
    [one] = policies.policies(site).rows
    row = site.lake.table("_policies").to_table().to_pylist()[0]
    assert one.explained == Policy.model_validate_json(row["policy"]).explain()
    assert one.screen is not None
    assert {op.op for op in one.screen.ops} == {op["op"] for op in json.loads(row["evidence"])["ops"]}


def test_a_policy_of_a_plugin_is_not_imported(copied: Lake) -> None:
    table = copied.table("_policies")
    row = table.to_table().to_pylist()[0]
    policy = {"subpolicies": [{"choices": [{"op": "antigravity.fly"}]}]}
    rows = pa.Table.from_pylist([row | {"policy": json.dumps(policy)}], schema=table.schema())
    part = copied.write_part("_policies", "plugin", [rows], table.schema())
    copied.commit([Change("_policies", table.schema(), (part,))], app="test", version=1)
    assert policies.policies(Site(copied)).rows[0].explained is None
    assert "antigravity" not in sys.modules


def test_costs_are_arithmetic(site: Site) -> None:
    found = costs.costs(site, costs.Prices(core_hour=3.6, gib_month=2.0, label=0.5))
    assert len(found.rows) == 2
    for row in found.rows:
        record = runs.run(site, row.line.run).record
        work = sum(step["seconds"] for step in record["steps"])
        assert row.compute == pytest.approx(work / 3600 * 3.6)
        assert row.saved == pytest.approx(row.line.repeats * 0.5)
        assert row.storage == pytest.approx(2.0 * sum(t["bytes"] for t in record["tables"].values()) / 2**30)
    heights = [bar.height for bar in bars(found.rows, "seconds")]
    assert max(heights) == 98
    assert len(heights) == 2


@pytest.mark.parametrize("price", ["x", "-1", "nan", "inf", "1e99"])
def test_a_price_that_is_none(price: str) -> None:
    with pytest.raises(ConfigError):
        costs.Prices.read({"label": price})


def test_health(copied: Lake) -> None:
    sound = soon(lambda: health.health(Site(copied)))
    assert (sound.findings, sound.checked, sound.commits) == ([], True, 0)
    part = copied.table("raw").parts()[0]
    (Path(copied.uri) / "raw" / part.path).unlink()
    found = soon(lambda: health.health(Site(copied)))
    assert [(finding.table, finding.rule) for finding in found.findings] == [("raw", "missing-part")]


def test_what_maintenance_would_do(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    rows = pa.table({"n": [1], "kind": ["a"]}, SCHEMA)
    several = tuple(lake.write_part("t", f"p{n}", [rows], SCHEMA) for n in range(20))
    lake.commit([Change("t", SCHEMA, several)], app="test", version=1)
    found = soon(lambda: health.health(Site(lake)))
    assert ("compact", "t") in [(action.what, action.where) for action in found.actions]
    assert found.actions == list(maintain(lake, dry_run=True).actions)


def test_too_many_files_are_left_to_the_command(lake: Lake, monkeypatch) -> None:
    monkeypatch.setattr(health, "MOST_FILES", 3)
    found = health.health(Site(lake))
    assert (found.checked, found.pending, found.actions) == (False, False, [])


def test_an_empty_lake_has_pages(tmp_path: Path) -> None:
    site = Site(Lake(tmp_path / "none"))
    assert overview.overview(site).run is None
    assert runs.runs(site).lines == []
    assert lineage.lineage(site).stops == []
    assert drops.drops(site).total == 0
    assert families.families(site).matchings == []
    assert policies.policies(site).rows == []
    assert costs.costs(site).rows == []
    assert health.health(site).files == 0
    assert not (tmp_path / "none").exists()


def test_looking_changes_nothing(copied: Lake) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(copied.uri).rglob("*")}
    site = Site(copied, show_content=True)
    for look in (overview.overview, runs.runs, lineage.lineage, drops.drops, policies.policies):
        look(site)
    soon(lambda: families.families(site))
    soon(lambda: health.health(site))
    assert before == {path: path.stat().st_mtime_ns for path in Path(copied.uri).rglob("*")}
