"""Text ops: Gristmill against nlpaug and a plain Python EDA, one thread.

::

    python benchmarks/text_ops.py [--peers VENV] [--sentences 1000] [--rounds 50]

Sentences of 8 to 40 words out of film reviews (``data.py fetch reviews``). ``--peers`` is a virtual environment
with nlpaug (and nltk, for its synonyms); without one, only the plain Python EDA is compared. All get the same
batch of sentences, small enough to come through between two interruptions of a busy machine; times are the
least of many rounds, all parties in turn within each (nlpaug: of a tenth of them). The lexicon is WordNet where
it is installed, and a small one otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))

from data import fetch

from augment import rng
from augment.text import Lexicon, Protect, load
from augment.text.execute import execute
from augment.text.lexicon import sources
from augment.text.table import BY_NAME

OURS = (
    "SynonymReplacement", "RandomInsertion", "RandomSwap", "RandomDeletion", "KeyboardNoise", "OcrNoise",
    "SentenceShuffle", "SpanCrop",
)  # fmt: skip
SHARE = 0.1
RESULTS = Path(__file__).parent / "results" / "text_ops.md"

# What a virtual environment with nlpaug runs: sentences in, seconds for each augmenter out.
PEER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import nlpaug.augmenter.char as nac, nlpaug.augmenter.word as naw
texts = json.load(sys.stdin)
made = {"KeyboardNoise": lambda: nac.KeyboardAug(aug_word_p=0.1),
        "OcrNoise": lambda: nac.OcrAug(aug_word_p=0.1),
        "RandomSwap": lambda: naw.RandomWordAug("swap", aug_p=0.1),
        "RandomDeletion": lambda: naw.RandomWordAug(aug_p=0.1),
        "SynonymReplacement": lambda: naw.SynonymAug(aug_p=0.1)}
found = {}
for name, make in made.items():
    try:
        op = make()
        op.augment(texts[:10])
    except Exception as error:
        print(name, type(error).__name__, file=sys.stderr)
        continue
    start = time.perf_counter()
    op.augment(texts)
    found[name] = len(texts) / (time.perf_counter() - start)
    for _ in range(2):
        start = time.perf_counter()
        op.augment(texts)
        found[name] = max(found[name], len(texts) / (time.perf_counter() - start))
print(json.dumps(found))
"""


def sentences(count: int) -> list[str]:
    found: list[str] = []
    with (fetch("reviews") / "reviews.jsonl").open(encoding="utf-8") as file:
        for line in file:
            text = json.loads(line)["text"].replace("<br />", " ")
            found += [s for s in re.split(r"(?<=[.!?])\s+", text) if 8 <= len(s.split()) <= 40]
            if len(found) >= count:
                break
    return found[:count]


def plain(op: str, text: str, synonyms: dict[str, tuple[str, ...]]) -> str:
    """EDA as one writes it down."""
    words = text.split()
    k = max(1, int(SHARE * len(words)))
    if op == "SynonymReplacement":
        able = [i for i, w in enumerate(words) if w.lower() in synonyms]
        for i in random.sample(able, min(k, len(able))):
            words[i] = random.choice(synonyms[words[i].lower()])
    elif op == "RandomInsertion":
        able = [w.lower() for w in words if w.lower() in synonyms]
        for _ in range(k if able else 0):
            words.insert(random.randint(0, len(words)), random.choice(synonyms[random.choice(able)]))
    elif op == "RandomSwap":
        for _ in range(k):
            a, b = random.sample(range(len(words)), 2)
            words[a], words[b] = words[b], words[a]
    elif op == "RandomDeletion":
        words = [w for w in words if random.random() >= SHARE] or [random.choice(words)]
    return " ".join(words)


def per_second(run: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    run()
    return count / (time.perf_counter() - start)


def ours(op: str, column: pa.Array, lexicon: Lexicon) -> Callable[[], object]:
    """The op with its draws: keys are made anew in each run, as a policy does."""
    n = len(column)

    def run() -> object:
        programs = SimpleNamespace(
            codes=np.full((n, 1), BY_NAME[op].code, np.int64),
            parameters=np.full((n, 1), SHARE),
            keys=rng.Stream(range(n), 1, 0).keys([0]),
        )
        return execute(column, programs, lexicon=lexicon, protect=Protect(), threads=1)

    return run


def peers(venv: Path | None, texts: list[str]) -> dict[str, float]:
    if venv is None:
        return {}
    done = subprocess.run(
        [venv / "bin" / "python", "-c", PEER],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--sentences", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--lexicon")
    asked = parser.parse_args()
    texts = sentences(asked.sentences)
    where = asked.lexicon or sources()["wordnet"]
    lexicon = load(where) if where else Lexicon.of({"good": ["fine"], "film": ["movie"], "bad": ["poor"]})
    synonyms = {
        word: lexicon[word] for word in {w for t in texts for w in t.lower().split()} if word in lexicon
    }
    column = pa.array(texts)
    best: dict[str, dict[str, float]] = {op: {} for op in OURS}
    loads = [os.getloadavg()[0]]
    for op in OURS:
        ours(op, column.slice(0, 100), lexicon)()  # compiled
    for turn in range(asked.rounds):
        for op in OURS:
            speeds = {"Gristmill": per_second(ours(op, column, lexicon), len(texts))}
            if op in OURS[:4]:
                speeds["plain Python"] = per_second(
                    lambda op=op: [plain(op, t, synonyms) for t in texts], len(texts)
                )
            for who, speed in speeds.items():
                best[op][who] = max(best[op].get(who, 0.0), speed)
        for op, speed in peers(asked.peers if turn % 10 == 0 else None, texts).items():
            best[op]["nlpaug"] = max(best[op].get("nlpaug", 0.0), speed)
        loads.append(os.getloadavg()[0])
    words = sum(len(t.split()) for t in texts) / len(texts)
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":")[1].strip() for line in cpu if "model name" in line), "?")
    size = sum(map(len, texts)) / len(texts)
    said = (
        f"{len(texts):,} sentences of film reviews, {words:.1f} words and {size:.0f} characters each; "
        f"share {SHARE:g}; {len(lexicon):,} words with synonyms{' (WordNet)' if where else ''}. "
        "Gristmill protects negations, numbers and names, keeps punctuation apart, and draws its keys "
        f"within the time; the others do none of it. Best of {asked.rounds} rounds, all in turn; a batch "
        "is small enough to come through between two interruptions."
    )
    machine = (
        f"{model}, {os.cpu_count()} cores, load {min(loads):.1f} to {max(loads):.1f} during the run; "
        f"Python {platform.python_version()}, NumPy {np.__version__}, PyArrow {pa.__version__}."
    )
    lines = [
        "# Text ops, sentences per second, one thread",
        "",
        said,
        machine,
        "",
        "| op | Gristmill | plain Python | nlpaug | times nlpaug |",
        "|---|---:|---:|---:|---:|",
    ]
    for op, speeds in best.items():
        cells = [
            f"{speeds[who]:,.0f}" if who in speeds else "" for who in ("Gristmill", "plain Python", "nlpaug")
        ]
        times = f"{speeds['Gristmill'] / speeds['nlpaug']:.0f}" if "nlpaug" in speeds else ""
        lines.append(f"| {op} | {' | '.join(cells)} | {times} |")
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
