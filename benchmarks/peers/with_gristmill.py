"""Gristmill: ``python -P with_gristmill.py IN.parquet OUT.parquet [MinHash|Jaccard]``."""

from __future__ import annotations

import sys

import pyarrow as pa
import pyarrow.parquet as pq

import dedup

table = pq.read_table(sys.argv[1])
table = table.append_column("row", pa.array(range(table.num_rows)))
step = getattr(dedup, sys.argv[3] if len(sys.argv) > 3 else "MinHash")
result = dedup.deduplicate(table, step(threshold=0.8))
pq.write_table(result.kept.select(["row"]), sys.argv[2])
