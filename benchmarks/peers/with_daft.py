"""Daft: ``python -P with_daft.py IN.parquet OUT.parquet [BANDS ROWS]``: minhash, bands, connected components.

In the way of its documentation: normalise, ``minhash``, one row per band, group by band, an edge from the least
row to each other one, and the least row of each component stays. Components by labels that are handed on until
nothing changes, in NumPy over the edges that Daft gives.
"""

from __future__ import annotations

import sys

import daft
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from daft import col
from daft.functions import minhash, monotonically_increasing_id, normalize

BANDS, ROWS = (int(each) for each in sys.argv[3:] or (18, 7))

frame = daft.read_parquet(sys.argv[1]).select("text").with_column("row", monotonically_increasing_id())
clean = normalize(col("text"), remove_punct=True, lowercase=True, nfd_unicode=True, white_space=True)
signed = frame.select(
    "row", minhash(clean, num_hashes=128, ngram_size=5, hash_function="xxhash").alias("signature")
)
table = signed.to_arrow()
rows = table.column("row").to_numpy()
values = table.column("signature").combine_chunks().flatten().to_numpy().reshape(-1, 128)
keys = np.ascontiguousarray(values[:, : BANDS * ROWS]).reshape(-1, BANDS, ROWS)
banded = daft.from_arrow(
    pa.table(
        {
            "row": np.repeat(rows, BANDS),
            "band": np.tile(np.arange(BANDS), len(rows)),
            **{f"v{at}": keys[:, :, at].ravel() for at in range(ROWS)},
        }
    )
)
grouped = (
    banded.groupby("band", *(f"v{at}" for at in range(ROWS)))
    .agg(col("row").min().alias("least"), col("row").list_agg().alias("rows"))
    .where(col("rows").list_count() > 1)
    .explode("rows")
    .where(col("rows") != col("least"))
    .select("least", "rows")
    .distinct()
    .to_arrow()
)
left, right = grouped.column("least").to_numpy(), grouped.column("rows").to_numpy()
label = np.arange(int(rows.max()) + 1)
while True:
    before = label.copy()
    np.minimum.at(label, right, label[left])
    np.minimum.at(label, left, label[right])
    label = label[label]
    if np.array_equal(before, label):
        break
kept = rows[label[rows] == rows]
pq.write_table(pa.table({"row": kept}), sys.argv[2])
