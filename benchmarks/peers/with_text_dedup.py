"""text-dedup: ``python -P with_text_dedup.py IN.parquet OUT.parquet``: its MinHash command, 2 processes."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import load_from_disk

table = pq.read_table(sys.argv[1], columns=["text"])
pq.write_table(table.append_column("row", pa.array(range(table.num_rows))), "in.parquet")
command = [sys.executable, "-P", "-m", "text_dedup.minhash", "--path", "parquet", "--data_files", "in.parquet"]
command += ["--split", "train", "--cache_dir", "cache", "--output", "out", "--column", "text"]
command += [
    "--threshold",
    "0.8",
    "--num_perm",
    "128",
    "--ngram",
    "5",
    "--num_proc",
    "2",
    "--batch_size",
    "10000",
]
subprocess.run(command, check=True)
rows = load_from_disk("out")["row"]
pq.write_table(pa.table({"row": list(rows)}), sys.argv[2])
