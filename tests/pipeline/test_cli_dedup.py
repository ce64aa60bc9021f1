from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from dedup import MinHash, deduplicate
from dedup.audit import audit
from dedup.match import STATE
from dedup.result import CLUSTERS
from lake import Lake
from pipeline.cli import cli

ROOT = Path(__file__).parents[2]
LENGTH = "pipeline.filters.Length: {min: 100}"
FIRST = "dedup.MinHash: {threshold: 0.6}"
WORDS = 40


def gristmill(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def told(*arguments: str) -> Any:
    done = gristmill(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def configure(path: str, *steps: str, lake: str = "./lake") -> None:
    listed = "".join(f"  - {step}\n" for step in steps)
    Path(path).write_text(
        f"name: docs\nlake: {lake}\nsource: {{lake.Files: {{paths: data/*.jsonl}}}}\n"
        + (f"steps:\n{listed}" if steps else "")
    )


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Families of texts of every similarity, and some short ones, in two files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRISTMILL_LAKE", raising=False)
    draw = np.random.default_rng(3)
    texts = [f"short {k}" for k in range(10)]
    for family in range(25):
        words = [f"f{family}w{k}" for k in range(WORDS)]
        for version in range(4):
            for place in draw.integers(0, WORDS, int(draw.integers(0, 4))).tolist():
                words[place] = f"f{family}v{version}p{place}"
            texts.append(" ".join(words))
    Path("data").mkdir()
    for name, part in (("a", texts[::2]), ("b", texts[1::2])):
        Path(f"data/{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    configure("gristmill.yaml", LENGTH, FIRST)


@pytest.fixture
def lake() -> Lake:
    """After a run."""
    done = gristmill("run", "--quiet")
    assert done.exit_code == 0, done.output
    return Lake("lake")


def long_rows(lake: Lake) -> pa.Table:
    rows = lake.table("raw").to_table()
    return rows.filter(pa.array([len(text) >= 100 for text in rows.column("text").to_pylist()]))


def dropped(lake: Lake, step: str) -> set[str]:
    drops = lake.table("_drops").to_table()
    return {row["_id"] for row in drops.to_pylist() if row["step"] == step}


# ---------------------------------------------------------------- audit


def test_audit_measures_what_reaches_the_step(lake: Lake) -> None:
    value = told("dedup", "audit")
    (found,) = value["audits"]
    rows = long_rows(lake)
    assert (value["pipeline"], found["label"], found["rows"]) == ("docs", "2 dedup.MinHash", rows.num_rows)
    wanted = json.loads(json.dumps(audit(rows, MinHash(threshold=0.6)).to_dict()))
    assert {name: each for name, each in found.items() if name != "label"} == wanted
    assert found["recall"]["of"] > 20
    assert found["complete"]["hits"] == len(dropped(lake, "2 dedup.MinHash"))


def test_audit_of_a_sample_is_that_of_the_table(lake: Lake) -> None:
    (found,) = told("dedup", "audit", "--rows", "50")["audits"]
    wanted = audit(long_rows(lake), MinHash(threshold=0.6), rows=50).to_dict()
    assert found["sampled"] == 50
    assert (found["recall"], found["drawn"]) == (wanted["recall"], wanted["drawn"])


@pytest.mark.usefixtures("lake")
def test_audit_of_other_settings() -> None:
    weak = told("dedup", "audit", "--set", "steps.2.bands=[3,16]")["audits"][0]
    assert weak["recall"]["share"] < told("dedup", "audit")["audits"][0]["recall"]["share"]
    assert weak["precision"]["hits"] == weak["precision"]["of"] > 0


@pytest.mark.usefixtures("lake")
def test_audit_of_one_step_or_all() -> None:
    configure("two.yaml", FIRST, LENGTH, "dedup.Jaccard: {threshold: 0.5}")
    found = told("dedup", "audit", "two.yaml")["audits"]
    assert [each["label"] for each in found] == ["1 dedup.MinHash", "3 dedup.Jaccard"]
    assert [each["rows"] for each in found] == [found[1]["rows"] + 10, found[1]["rows"]]
    (third,) = told("dedup", "audit", "two.yaml", "--step", "3")["audits"]
    assert third == found[1]
    assert third["recall"]["share"] == 1.0
    done = gristmill("dedup", "audit", "two.yaml", "--step", "2")
    assert done.exit_code == 2
    assert "1 dedup.MinHash, 3 dedup.Jaccard" in done.stderr
    assert gristmill("dedup", "audit", "two.yaml", "--step", "4").exit_code == 2


@pytest.mark.usefixtures("lake")
def test_audit_in_words() -> None:
    done = gristmill("dedup", "audit", "--html", "page.html")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("step 2 dedup.MinHash\n")
    assert "recall of pairs" in done.stdout
    assert "wrote page.html" in done.stderr
    assert "page.html" not in done.stdout


class Page(HTMLParser):
    """Checks that tags close in order, that nothing runs and nothing is fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.classes: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag not in {"script", "link", "img", "iframe"}
        assert not any(name.startswith("on") or name in {"src", "href", "style"} for name, _ in attrs)
        self.classes += [value for name, value in attrs if name == "class"]
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize("step", ["dedup.MinHash: {threshold: 0.6}", "dedup.Jaccard: {threshold: 1.0}"])
def test_the_page_stands_alone(step: str) -> None:
    configure("other.yaml", LENGTH, step)
    assert gristmill("dedup", "audit", "other.yaml", "--html", "page.html").exit_code == 0
    text = Path("page.html").read_text()
    page = Page(text)
    assert page.seen.count("svg") == 3
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in text
    assert not re.search(r"f\d+w\d+", text)
    assert "nan" not in text
    assert page.classes.count("here") >= 3
    named = set(re.findall(r"\.([a-z][\w-]*)", style))
    assert {each for value in page.classes for each in value.split()} - named <= {"on", "x"}
    for point in re.findall(r'cy="([\d.-]+)"', text):
        assert 0 <= float(point) <= 300
    for x, width in re.findall(r'<rect[^>]* x="([\d.-]+)" y="[\d.]+" width="([\d.]+)"', text):
        assert 50 <= float(x) <= float(x) + float(width) <= 710


def test_audit_before_the_first_run() -> None:
    done = gristmill("dedup", "audit")
    assert done.exit_code == 1
    assert "gristmill run" in done.stderr
    assert "Traceback" not in done.output


def test_a_pipeline_that_finds_no_similar_rows() -> None:
    configure("plain.yaml", LENGTH)
    for verb in (["audit"], ["rethreshold", "--threshold", "0.9"]):
        done = gristmill("dedup", verb[0], "plain.yaml", *verb[1:])
        assert done.exit_code == 2
        assert "dedup.MinHash" in done.stderr


@pytest.mark.usefixtures("lake")
def test_a_page_that_cannot_be_written() -> None:
    done = gristmill("dedup", "audit", "--html", "no/such/page.html")
    assert done.exit_code == 1
    assert "no/such/page.html" in done.stderr


# ---------------------------------------------------------------- rethreshold


def test_rethreshold_says_what_a_run_would_do(lake: Lake) -> None:
    now = dropped(lake, "2 dedup.MinHash")
    value = told("dedup", "rethreshold", "--threshold", "0.8", "--output", "out")
    configure("gristmill.yaml", LENGTH, FIRST.replace("0.6", "0.8"), lake="./other")
    assert gristmill("run", "--quiet").exit_code == 0
    then = dropped(Lake("other"), "2 dedup.MinHash")
    assert len(now) > len(then) > 0
    rows = long_rows(lake).num_rows
    assert value["rows"] == rows
    assert (value["now"]["threshold"], value["then"]["threshold"]) == (0.6, 0.8)
    assert (value["now"]["dropped"], value["then"]["dropped"]) == (len(now), len(then))
    assert (value["now"]["kept"], value["then"]["kept"]) == (rows - len(now), rows - len(then))
    assert (value["back"], value["newly_dropped"]) == (len(now - then), len(then - now))
    back, drops = (pq.read_table(f"out/{name}.parquet") for name in ("kept-again", "drops"))
    assert back.schema.equals(STATE)
    assert set(back.column("_id").to_pylist()) == now - then
    assert set(drops.column("_id").to_pylist()) == then
    assert min(drops.column("exact").to_pylist()) >= 0.8


def test_rethreshold_of_a_later_step_knows_what_earlier_ones_dropped(lake: Lake) -> None:
    steps = [LENGTH, "dedup.MinHash: {threshold: 0.9}", "dedup.MinHash: {threshold: 0.5, keep: [length]}"]
    configure("gristmill.yaml", *steps, lake="./second")
    assert gristmill("run", "--quiet").exit_code == 0
    value = told("dedup", "rethreshold", "--threshold", "0.7", "--step", "3")
    assert value["now"]["dropped"] == len(dropped(Lake("second"), "3 dedup.MinHash"))
    configure("gristmill.yaml", *steps[:2], steps[2].replace("0.5", "0.7"), lake="./third")
    assert gristmill("run", "--quiet").exit_code == 0
    assert value["then"]["dropped"] == len(dropped(Lake("third"), "3 dedup.MinHash")) > 0
    assert value["rows"] == long_rows(lake).num_rows - len(dropped(Lake("third"), "2 dedup.MinHash"))
    done = gristmill("dedup", "rethreshold", "--threshold", "0.95")
    assert done.exit_code == 2
    assert "--step N" in done.stderr


@pytest.mark.usefixtures("lake")
def test_rethreshold_in_words() -> None:
    done = gristmill("dedup", "rethreshold", "--threshold", "0.6")
    assert done.exit_code == 0
    assert "0 rows come back; 0 go that stay now" in done.stdout
    assert done.stderr == ""


@pytest.mark.usefixtures("lake")
def test_a_lower_threshold_is_refused() -> None:
    done = gristmill("dedup", "rethreshold", "--threshold", "0.59")
    assert done.exit_code == 2
    assert "lower than the threshold of step 2 dedup.MinHash, 0.6" in done.stderr
    assert gristmill("dedup", "rethreshold", "--threshold", "1.5").exit_code == 2
    assert gristmill("dedup", "rethreshold").exit_code == 2


def test_rethreshold_of_what_was_not_run() -> None:
    done = gristmill("dedup", "rethreshold", "--threshold", "0.8")
    assert done.exit_code == 1
    assert "gristmill run" in done.stderr
    assert "Traceback" not in done.output


# ---------------------------------------------------------------- clusters


def listed(*arguments: str) -> list[dict[str, Any]]:
    done = gristmill("dedup", "clusters", *arguments, "--json")
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_clusters_are_those_of_the_rows_in_a_notebook(lake: Lake) -> None:
    found = pa.Table.from_pylist(listed(), schema=CLUSTERS)
    assert found.equals(deduplicate(long_rows(lake), MinHash(threshold=0.6)).clusters)
    assert found.num_rows > 50
    assert listed("--limit", "7") == found.slice(0, 7).to_pylist()
    done = gristmill("dedup", "clusters", "--output", "families.parquet")
    assert (done.exit_code, done.stdout) == (0, "")
    assert pq.read_table("families.parquet").equals(found)


def test_clusters_of_a_later_step_are_without_what_earlier_ones_dropped(lake: Lake) -> None:
    steps = [LENGTH, "dedup.MinHash: {threshold: 0.75}", "dedup.MinHash: {threshold: 0.5, keep: [length]}"]
    configure("gristmill.yaml", *steps, lake="./second")
    assert gristmill("run", "--quiet").exit_code == 0
    gone = dropped(Lake("second"), "2 dedup.MinHash")
    rows = long_rows(lake)
    left = rows.filter(pa.array([each not in gone for each in rows["_id"].to_pylist()]))
    match = MinHash(threshold=0.5, keep=("length",))
    found = listed("--step", "3")
    assert found == deduplicate(left, match).clusters.to_pylist()
    assert {row["_id"] for row in found if not row["kept"]} == dropped(Lake("second"), "3 dedup.MinHash")
    assert len(gone) > 5
    done = gristmill("dedup", "clusters")
    assert done.exit_code == 2
    assert "--step N" in done.stderr


@pytest.mark.usefixtures("lake")
def test_clusters_in_words() -> None:
    done = gristmill("dedup", "clusters", "--limit", "5")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["family", "_id", "state", "twin", "exact"]
    assert len(lines) == 6
    assert {line[68:72] for line in lines[1:]} == {"kept", "drop"}


@pytest.mark.usefixtures("lake")
def test_clusters_of_what_was_not_run() -> None:
    for steps in ((LENGTH, FIRST.replace("0.6", "0.7")), (LENGTH, "dedup.MinHash: {threshold: 0.9}", FIRST)):
        configure("other.yaml", *steps)
        done = gristmill("dedup", "clusters", "other.yaml", "--step", str(len(steps)))
        assert done.exit_code == 1
        assert "gristmill run" in done.stderr
        assert "Traceback" not in done.output


def test_a_lake_without_families(lake: Lake) -> None:
    configure("gristmill.yaml", LENGTH.replace("100", "9999"), FIRST, lake="./none")
    assert gristmill("run", "--quiet").exit_code == 0
    assert lake.uri != Lake("none").uri
    assert listed() == []
    assert "no families" in gristmill("dedup", "clusters").stderr


# ---------------------------------------------------------------- the group


@pytest.mark.parametrize("arguments", [["dedup", "--help"], ["dedup", "audit", "--help"]])
def test_help_is_light(arguments: list[str]) -> None:
    code = (
        "import sys, atexit;"
        "atexit.register(lambda: print(*{n.split('.')[0] for n in sys.modules}, file=sys.stderr));"
        f"from pipeline.cli import main; main({arguments})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stderr.split())
    assert not loaded & {"pydantic", "pyarrow", "numpy", "yaml", "jinja2", "lake", "dedup", "numba"}
