"""Files that are one record each: their bytes, within limits, and plain text."""

from __future__ import annotations

from lake.formats.lines import BOM, BrokenStreamError, stream
from lake.formats.rows import BadRowError, Reading, Rows
from lake.formats.splits import Piece

__all__ = ["as_text", "contents", "take"]

_CHUNK = 1 << 20


def contents(address: str, compression: str, how: Reading) -> bytes:
    """All bytes of a file.

    Raises:
        BadRowError: more than ``max_row_bytes``.
        BrokenStreamError: compressed data broken.
        OSError: as the system says it.
    """
    parts, size = [], 0
    with stream(address, compression) as read:
        while data := read(_CHUNK):
            parts.append(data)
            size += len(data)
            if size > how.max_row_bytes:
                raise BadRowError("row-too-large", f"over {how.max_row_bytes} bytes")
    return b"".join(parts)


def as_text(blob: bytes) -> str:
    """UTF-8 without its byte order mark.

    Raises:
        BadRowError: ``nul-byte`` or ``invalid-utf8``, with the place.
    """
    if b"\0" in blob:
        raise BadRowError("nul-byte", f"byte {blob.index(0) + 1}: a NUL byte")
    try:
        return blob.removeprefix(BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRowError("invalid-utf8", f"byte {error.start + 1}: {error.reason}") from None


def take(piece: Piece, address: str, how: Reading, rows: Rows) -> None:
    """A text file as one record; an empty one is a record with an empty text."""
    file = piece.file
    try:
        text = as_text(contents(address, file.compression, how))
    except BrokenStreamError as broken:
        rows.drop(file.uri, 1, "truncated-file", str(broken.args[0]))
    except BadRowError as bad:
        rows.drop(file.uri, 1, bad.rule, bad.detail)
    else:
        rows.add(file.uri, 1, text=text, label=file.label, typed=(None,) * len(how.columns))
