"""datatrove: ``python -P with_datatrove.py IN.parquet OUT.parquet``: its four MinHash stages, 2 workers."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter

WORKERS = 2


def main() -> None:
    base = Path.cwd()
    (base / "in").mkdir()
    table = pq.read_table(sys.argv[1], columns=["text"])
    table = table.append_column("id", pa.array([f"row-{row}" for row in range(table.num_rows)]))
    each = -(-table.num_rows // WORKERS)
    for part in range(WORKERS):
        pq.write_table(table.slice(part * each, each), base / "in" / f"{part}.parquet")

    config = MinhashConfig()  # word 5-grams, 14 bands of 8

    def run(tasks: int, workers: int, *pipeline: object) -> None:
        LocalPipelineExecutor(
            pipeline=list(pipeline),
            tasks=tasks,
            workers=workers,
            logging_dir=str(base / "logs" / str(len(done))),
        ).run()
        done.append(1)

    done: list[int] = []
    reader = ParquetReader(str(base / "in"))
    run(WORKERS, WORKERS, reader, MinhashDedupSignature(str(base / "signatures"), config=config))
    buckets = MinhashDedupBuckets(str(base / "signatures"), str(base / "buckets"), config=config)
    run(config.num_buckets, WORKERS, buckets)
    run(1, 1, MinhashDedupCluster(str(base / "buckets"), str(base / "remove"), config=config))
    out = ParquetWriter(str(base / "out"), output_filename="${rank}.parquet")
    run(WORKERS, WORKERS, reader, MinhashDedupFilter(str(base / "remove")), out)
    ids = pq.read_table(base / "out", columns=["id"]).column("id").to_pylist()
    pq.write_table(pa.table({"row": [int(re.sub(r"\D", "", each)) for each in ids]}), sys.argv[2])


if __name__ == "__main__":
    main()
