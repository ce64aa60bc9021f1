"""Rensa: ``python -P with_rensa.py IN.parquet OUT.parquet [R|C|rho]``.

R and C: the deduplicators of its README, whose candidates are checked against the estimated similarity. rho:
its quick batch, that samples positions; a row goes if one before it shares a band.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rensa

ALONE = (  # Chinese and Japanese: each character a token
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u30ff\u3105-\u312f"
    "\u3400-\u9fff\uf900-\ufaff"
)
TOKEN = re.compile(f"[{ALONE}]|[^\\W_{ALONE}]+")
BANDS = 8  # as its own benchmark has it


def grams(text: str) -> list[str]:
    tokens = TOKEN.findall(text.lower())
    if len(tokens) < 5:
        return [" ".join(tokens)]
    return list(map(" ".join, zip(tokens, tokens[1:], tokens[2:], tokens[3:], tokens[4:], strict=False)))


def sets(column: pa.ChunkedArray) -> Iterator[list[str]]:
    for chunk in column.chunks:
        for text in chunk.to_pylist():
            yield grams(text)


def firsts(rows: np.ndarray) -> np.ndarray:
    """Rows that share no band with one before them."""
    new = np.ones(len(rows), bool)
    for band in np.split(rows, BANDS, axis=1):
        keys = np.ascontiguousarray(band).view(f"V{band.shape[1] * band.itemsize}").ravel()
        seen: set[bytes] = set()
        for row, key in enumerate(keys.tolist()):
            if key in seen:
                new[row] = False
            seen.add(key)
    return new


kind = sys.argv[3] if len(sys.argv) > 3 else "R"
texts = pq.read_table(sys.argv[1], columns=["text"]).column("text")
if kind == "rho":
    matrix = rensa.RMinHash.digest_matrix_from_token_sets_rho(sets(texts), num_perm=128, seed=42)
    keep = firsts(np.array(matrix.to_rows(), np.uint32))
else:
    if kind == "R":
        deduplicator = rensa.RMinHashDeduplicator(threshold=0.8, num_perm=128, use_lsh=True)
    else:
        deduplicator = rensa.CMinHashDeduplicator(threshold=0.8, num_perm=128)
    keep = np.array(deduplicator.add_pairs((str(row), tokens) for row, tokens in enumerate(sets(texts))))
pq.write_table(pa.table({"row": np.flatnonzero(keep)}), sys.argv[2])
