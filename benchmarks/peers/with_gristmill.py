"""Gristmill: ``python -P with_gristmill.py IN.parquet OUT.parquet [MinHash|Jaccard]``."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import dedup

step = getattr(dedup, sys.argv[3] if len(sys.argv) > 3 else "MinHash")
result = dedup.deduplicate(sys.argv[1], step(threshold=0.8))
pq.write_table(pa.table({"row": np.flatnonzero(result.mask)}), sys.argv[2])
