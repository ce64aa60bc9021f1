"""The throughputs of this machine: a real run over a small corpus, in processor seconds."""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.progress import Silent
from pipeline.size.rates import Kind, Rate, Rates

__all__ = ["drawn_pictures", "drawn_texts", "measure"]

_TEXTS = 60_000
_PICTURES = 400
_SIDE = 224


class _Clock(Silent):
    """Processor seconds by the title of the pass; what lies between passes is the driver's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.parts = 0
        self._name = "driver"
        self._since = time.process_time()
        self.last = 0.0
        """Seconds after the last pass: the commit and the report, which do not grow with the rows."""

    def _turn(self, name: str) -> None:
        now = time.process_time()
        self.last = now - self._since
        self.seconds[self._name] += self.last
        self._name, self._since = name, now

    def start_step(self, name: str, total: int | None) -> None:
        """A pass begins."""
        self.parts += total or 0
        self._turn(name)

    def finish(self) -> None:
        """It is over."""
        self._turn("driver")


def measure(kinds: Sequence[Kind] = ("text", "image")) -> Rates:
    """Run the main job on drawn texts and pictures, on one thread, and take the processor's time.

    Takes about a minute. Processor seconds of a busy machine are up to a third above those of a quiet one.
    """
    with tempfile.TemporaryDirectory(prefix="gristmill-size-") as folder:
        return Rates(tuple(rate for kind in kinds for rate in _of(kind, Path(folder, kind))))


def _of(kind: Kind, folder: Path) -> list[Rate]:
    """Two runs, one four times as large: what grows between them is a rate, the rest is paid once a run."""
    make, whole = (drawn_texts, _TEXTS) if kind == "text" else (drawn_pictures, _PICTURES)
    seen: list[tuple[int, dict[str, float]]] = []
    for name, rows in (
        ("warm", whole // 20),
        ("small", whole // 4),
        ("large", whole),
    ):  # the first one compiles
        here = folder / name
        here.mkdir(parents=True)
        seen.append((make(here / "data", rows), _run(kind, here)))
    (less, before), (more, after) = seen[1:]
    source = f"`gristmill size --measure`, {whole:,} rows, {more / 1e6:.0f} MB"
    rates = []
    after["driver"] += before["report"]  # on both sides of the difference: it is paid once a run
    before["driver"] += before["report"]
    for name in ("ingest", "sketch", "write", "driver"):
        slope = max(0.0, after[name] - before[name]) / (more - less)
        rates.append(Rate(kind, name, slope * 1e9, max(0.0, after[name] - slope * more), source))
    return rates


def _name(title: str) -> str:
    """A pass by the name that the model has for it."""
    if title == "report":
        return title
    if "decision" in title or title == "driver":
        return "driver"
    if title.startswith("ingest"):
        return "ingest"
    return "write" if ": write " in title else "sketch"


def _run(kind: Kind, folder: Path) -> dict[str, float]:
    """Processor seconds of a run by the names of the model."""
    from pipeline import Pipeline, engine

    steps = {
        "text": "[{pipeline.filters.Quality: {preset: plain}}, {dedup.MinHash: {threshold: 0.8}}]",
        "image": "[{dedup.PHash: {}}, {augment.Apply: {copies: 1}}]",
    }[kind]
    text = f"name: size\nlake: lake\nsource: {{lake.Files: {{paths: data}}}}\nsteps: {steps}\n"
    (folder / "size.yaml").write_text(text)
    clock = _Clock()
    runner = engine.local(1)
    try:
        Pipeline.load(folder / "size.yaml").run(runner=runner, progress=clock)
    finally:
        runner.close()
    clock.finish()
    clock.seconds["driver"] -= clock.last
    clock.seconds["report"] = clock.last
    found: dict[str, float] = defaultdict(float)
    for title, seconds in clock.seconds.items():
        found[_name(title)] += seconds
    return found


def drawn_texts(folder: Path, rows: int) -> int:
    """JSON lines of about 900 bytes each, a tenth of them with a near-duplicate."""
    folder.mkdir()
    draw = np.random.default_rng(7)
    words = ["".join(draw.choice(list("etaoinshrdlucm"), draw.integers(2, 9))) for _ in range(5000)]
    lines: list[str] = []
    for number in range(rows):
        text = " ".join(words[at] for at in draw.integers(0, len(words), 130))
        if number % 10 == 9:  # noqa: PLR2004  (the last of each ten)
            text = json.loads(lines[-5])["text"] + " again"
        lines.append(json.dumps({"text": text, "label": number % 3}))
    data = ("\n".join(lines) + "\n").encode()
    (folder / "texts.jsonl").write_bytes(data)
    return len(data)


def drawn_pictures(folder: Path, rows: int) -> int:
    """PNG files of smooth noise, 224 by 224."""
    from PIL import Image

    draw = np.random.default_rng(7)
    size = 0
    for number in range(rows):
        (folder / f"class-{number % 4}").mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draw.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(buffer, "PNG")
        (folder / f"class-{number % 4}" / f"{number:05}.png").write_bytes(buffer.getvalue())
        size += len(buffer.getvalue())
    return size
