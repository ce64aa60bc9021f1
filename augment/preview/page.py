"""A preview as HTML: one file, no scripts, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from augment.preview.images import Cell, Preview, Row

__all__ = ["STYLE", "document", "fragment", "markup", "save"]

STYLE = """
.gm-preview { color: inherit; }
.gm-preview h3 { font-size: 1rem; font-weight: 650; letter-spacing: -.005em; margin: 1.75rem 0 .6rem; }
.gm-preview summary { font-weight: 650; margin: 1.75rem 0 .6rem; cursor: pointer; }
.gm-preview h4 { font-size: .875rem; font-weight: 650; margin: 1.1rem 0 .4rem; }
.gm-preview h4 span { font-weight: 400; opacity: .72; }
.gm-preview .gm-note { font-size: .8125rem; opacity: .78; margin: 0 0 .5rem; max-width: 60rem;
  overflow-wrap: anywhere; }
.gm-preview .gm-frames { display: flex; flex-wrap: wrap; gap: 1rem .75rem; align-items: flex-start; }
.gm-preview .gm-levels { display: flex; gap: .5rem; align-items: flex-start; overflow-x: auto;
  padding: 0 0 .5rem; }
.gm-preview figure { margin: 0; width: 160px; flex: none; }
.gm-preview .gm-levels figure { width: 104px; }
.gm-preview figure.gm-wide { width: auto; }
.gm-preview img { display: block; max-width: 100%; height: auto; border-radius: 3px; }
.gm-preview img.gm-pixels { image-rendering: pixelated; }
.gm-preview figcaption { font-size: .75rem; line-height: 1.4; margin-top: .35rem; overflow-wrap: anywhere; }
.gm-preview figcaption b { display: block; font-weight: 650; }
.gm-preview figcaption .gm-fused { display: block; opacity: .72; padding-left: .6rem; text-indent: -.6rem; }
.gm-preview .gm-text { font-size: .9rem; line-height: 1.6; margin: 0 0 .9rem; max-width: 46rem;
  overflow-wrap: anywhere; white-space: pre-wrap; unicode-bidi: isolate; }
.gm-preview del { color: #b3261e; background: #fbe0dd; border-radius: 2px; }
.gm-preview ins { color: #0a5c36; background: #d9f2e3; border-radius: 2px; text-decoration-thickness: 1px; }
@media (prefers-color-scheme: dark) {
  .gm-preview del { color: #ffb4ab; background: #4a1f1b; }
  .gm-preview ins { color: #8fe0b0; background: #14402a; }
}
"""
"""Of what :func:`markup` gives; every rule stays inside it."""

_PAGE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 2rem 1rem; max-width: 68rem; background: #fbfaf8; color: #1c1b19;
  font: 400 1rem/1.55 ui-sans-serif, system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
@media (prefers-color-scheme: dark) { body { background: #151513; color: #eceae5; } }
"""

_QUALITY = 88


def document(title: str, body: str) -> str:
    """A page of its own: the style is allowed by its hash, everything else but pictures is forbidden."""
    style = _PAGE + STYLE
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            "<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">', f"<title>{escape(title)}</title>",
            f"<style>{style}</style>", "</head>", "<body>", body, "</body>", "</html>", "",
        ]
    )  # fmt: skip


def fragment(body: str) -> str:
    """For a notebook."""
    return f"<style>{STYLE}</style>\n{body}"


def markup(preview: Preview, *, titled: bool = True, unfolded: bool = True) -> str:
    """A preview as a piece of HTML.

    Args:
        preview: the preview.
        titled: say which policy and id.
        unfolded: show the levels at once, not only when they are asked for.
    """
    title = f'<p class="gm-note"><b>{escape(preview.title)}</b></p>' if titled else ""
    parts = [
        '<div class="gm-preview">', title,
        f'<p class="gm-note">{escape(preview.note)}</p>', "<h3>Original, and what the policy makes of it</h3>",
        '<div class="gm-frames">', _figure(preview.original, ""),
        *(_figure(cell, cell.words) for cell in preview.samples.cells), "</div>",
    ]  # fmt: skip
    if preview.levels:
        what = "Each op alone, as far as the policy takes it"
        opened = ' open=""' if unfolded else ""  # as XML too
        parts.append(f"<details{opened}><summary>{what}</summary>")
        for row in preview.levels:
            parts += _row(row)
        parts.append("</details>")
    return "\n".join([*parts, "</div>"])


def _row(row: Row) -> list[str]:
    note = f" <span>{escape(row.note)}</span>" if row.note else ""
    cells = [_figure(cell, cell.words.removeprefix(row.name).strip()) for cell in row.cells]
    return [f"<h4>{escape(row.name)}{note}</h4>", '<div class="gm-levels">', *cells, "</div>"]


def _figure(cell: Cell, words: str) -> str:
    height, width = cell.shown.shape[:2]
    classes = ' class="gm-wide"' if width > 160 else ""  # noqa: PLR2004  (a montage)
    pixels = ' class="gm-pixels"' if cell.exact else ""
    what = escape(f"{cell.title}: {words}" if words else cell.title, quote=True)
    uri = _uri(cell.shown, exact=cell.exact)
    image = f'<img src="{uri}" width="{width}" height="{height}" alt="{what}"{pixels}>'
    lines = cell.fused.splitlines() if several(cell) else []
    fused = "".join(f'<span class="gm-fused">{escape(line)}</span>' for line in lines)
    caption = f"<b>{escape(cell.title)}</b> {escape(words)}{fused}"
    return f"<figure{classes}>{image}<figcaption>{caption}</figcaption></figure>"


def several(cell: Cell) -> bool:
    """Whether there is anything to say about how several ops were carried out."""
    return " \N{MIDDLE DOT} " in cell.words


def _uri(picture: npt.NDArray[np.uint8], *, exact: bool) -> str:
    """Lossless where every pixel is shown; a photograph that was reduced takes a tenth as JPEG."""
    out = io.BytesIO()
    image = Image.fromarray(picture)
    if exact:
        image.save(out, "PNG")
    else:
        image.save(out, "JPEG", quality=_QUALITY)
    return f"data:image/{'png' if exact else 'jpeg'};base64,{base64.b64encode(out.getvalue()).decode()}"


def save(path: str | Path, html: Callable[[], str], png: Callable[[], bytes] | None) -> Path:
    """Write by the ending of the name.

    Raises:
        ValueError: it is none that there is a way to write.
    """
    target = Path(path)
    ending = target.suffix.lower()
    if ending in {".html", ".htm"}:
        target.write_text(html(), encoding="utf-8")
    elif ending == ".png" and png is not None:
        target.write_bytes(png())
    else:
        raise ValueError(f"{target.name}: a preview is saved as .html{'' if png is None else ' or .png'}")
    return target
