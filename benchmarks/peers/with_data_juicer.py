"""Data-Juicer: ``python -P with_data_juicer.py IN.parquet OUT.parquet``: its MinHash operator, 2 processes."""

from __future__ import annotations

import sys

import pyarrow as pa
import pyarrow.parquet as pq
from data_juicer.core.data import NestedDataset
from data_juicer.ops.deduplicator.document_minhash_deduplicator import DocumentMinhashDeduplicator

table = pq.read_table(sys.argv[1], columns=["text"])
table = table.append_column("row", pa.array(range(table.num_rows)))
op = DocumentMinhashDeduplicator(
    tokenization="space", window_size=5, num_permutations=128, jaccard_threshold=0.8
)
dataset = NestedDataset.from_dict(table.to_pydict()).map(op.compute_hash, num_proc=2)
kept, _ = op.process(dataset)
pq.write_table(pa.table({"row": list(kept["row"])}), sys.argv[2])
