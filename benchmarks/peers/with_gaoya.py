"""gaoya: ``python -P with_gaoya.py IN.parquet OUT.parquet``: its word 5-grams, parallel insert, query."""

from __future__ import annotations

import sys

import pyarrow as pa
import pyarrow.parquet as pq
from gaoya.minhash import MinHashStringIndex

texts = pq.read_table(sys.argv[1], columns=["text"]).column("text").to_pylist()
index = MinHashStringIndex(
    hash_size=32,
    jaccard_threshold=0.8,
    num_bands=None,
    band_size=None,
    num_hashes=128,
    analyzer="word",
    lowercase=True,
    ngram_range=(5, 5),
    id_container="vec",
)
index.par_bulk_insert_docs(list(range(len(texts))), texts)
gone = bytearray(len(texts))
kept = []
for start in range(0, len(texts), 10_000):
    for row, near in enumerate(index.par_bulk_query(texts[start : start + 10_000]), start):
        if not gone[row]:
            kept.append(row)
            for other in near:
                gone[other] = 1
pq.write_table(pa.table({"row": kept}), sys.argv[2])
