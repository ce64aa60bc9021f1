"""HTML for notebooks: everything escaped, images as thumbnails."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

import pyarrow as pa

__all__ = ["bytes_text", "grid", "table_html"]

_THUMBNAIL = 96  # pixels
_SMALL = 1 << 20  # bytes of an encoded image that a notebook may decode on sight
_PIXELS = 16_000_000
_LONG = 120  # characters of a cell


def bytes_text(size: float) -> str:
    """A size for people.

    >>> bytes_text(1536)
    '1.5 KiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004  (what the prefixes mean)
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def table_html(title: str, schema: pa.Schema | None, rows: pa.Table | None) -> str:
    """A table's title, columns and first rows."""
    head = f"<div><code>{escape(title)}</code></div>"
    if schema is None or rows is None:
        return head
    names = [f"{escape(column.name)}<br><small>{escape(str(column.type))}</small>" for column in schema]
    cells = ([_cell(name, value) for name, value in row.items()] for row in rows.to_pylist())
    return head + grid(names, cells)


def grid(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table from cells that are HTML already."""
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(name: str, value: object) -> str:
    if isinstance(value, bytes):
        picture = _thumbnail(value) if name == "image" else None
        return picture or f"<i>{bytes_text(len(value))}</i>"
    text = "" if value is None else str(value)
    return escape(text if len(text) <= _LONG else f"{text[:_LONG]}…")


def _thumbnail(data: bytes) -> str | None:
    """A PNG data URI, or None for what is too large, or no image that Pillow can read."""
    from PIL import Image, UnidentifiedImageError

    if len(data) > _SMALL:
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > _PIXELS:
                return None
            small = image.convert("RGB")
        small.thumbnail((_THUMBNAIL, _THUMBNAIL))
        out = io.BytesIO()
        small.save(out, "PNG")
    # Broken files raise all of these, the decoders not being of one mind.
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return f'<img src="data:image/png;base64,{b64encode(out.getvalue()).decode()}" alt="">'
