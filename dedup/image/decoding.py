"""The images of a table, decoded a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup.image.hashes import Image
from lake.errors import SchemaError

__all__ = ["decoded"]


def decoded(table: pa.Table, step: str, batch: int) -> Iterator[tuple[list[int], list[Image]]]:
    """Decode the column ``image``; what is null or cannot be decoded is left out.

    Args:
        table: records.
        step: who asks, for errors.
        batch: bytes of pixels after which a batch ends.

    Yields:
        The numbers of some rows, ascending, and their pixels.

    Raises:
        SchemaError: the table has no column ``image``, or it holds no bytes.
    """
    from lake.images import BadImageError, decode

    if "image" not in table.schema.names:
        raise SchemaError(f"{step} needs a column image", hint="read images with lake.Files")
    column = table.column("image")
    kind = column.type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind)):
        raise SchemaError(f"a column of type {kind} holds no images", hint="give the encoded files as binary")
    numbers: list[int] = []
    images: list[Image] = []
    held = 0
    for row in np.flatnonzero(pc.is_valid(column).to_numpy()).tolist():
        try:
            image = decode(column[row].as_py())
        except BadImageError:
            continue  # the step that needs its pixels drops it, with the reason
        numbers.append(row)
        images.append(image)
        held += image.nbytes
        if held >= batch:
            yield numbers, images
            numbers, images, held = [], [], 0
    if images:
        yield numbers, images
