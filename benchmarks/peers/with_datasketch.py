"""datasketch: ``python -P with_datasketch.py IN.parquet OUT.parquet``: MinHashLSH as in its documentation."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from datasketch import MinHash, MinHashLSH

ALONE = (  # Chinese and Japanese: each character a token
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u30ff\u3105-\u312f"
    "\u3400-\u9fff\uf900-\ufaff"
)
TOKEN = re.compile(f"[{ALONE}]|[^\\W_{ALONE}]+")


def grams(text: str) -> set[bytes]:
    tokens = TOKEN.findall(text.lower())
    return {" ".join(tokens[at : at + 5]).encode() for at in range(max(1, len(tokens) - 4))}


def sets(column: pa.ChunkedArray) -> Iterator[set[bytes]]:
    for chunk in column.chunks:
        for text in chunk:
            yield grams(text.as_py())


lsh = MinHashLSH(threshold=0.8, num_perm=128)
kept = []
texts = pq.read_table(sys.argv[1], columns=["text"]).column("text")
for row, minhash in enumerate(MinHash.generator(sets(texts), num_perm=128)):
    if not lsh.query(minhash):
        lsh.insert(row, minhash, check_duplication=False)
        kept.append(row)
pq.write_table(pa.table({"row": kept}), sys.argv[2])
