"""A preview as a page, and as pictures."""

from __future__ import annotations

import base64
import hashlib
import io
from typing import TYPE_CHECKING

from markupsafe import Markup
from PIL import Image

from augment.preview import Preview, TextPreview
from augment.preview.page import STYLE
from augment.preview.sheet import PAPER
from pipeline.report.html import TEMPLATES, environment

if TYPE_CHECKING:
    from pipeline.preview import Looked

__all__ = ["page", "pictures"]


def page(looked: Looked) -> str:
    """The whole page: one HTML file with everything in it, that fetches nothing and runs nothing."""
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8") + STYLE
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    made: str = (
        environment()
        .get_template("preview.html.j2")
        .render(
            looked=looked,
            rows=[(row, Markup(_markup(row.preview, at))) for at, row in enumerate(looked.rows)],  # noqa: S704  (escaped where it was made)
            style=Markup(style),  # noqa: S704  (our own file)
            digest=digest,
        )
    )
    return made


def _markup(shown: Preview | TextPreview, at: int) -> str:
    if isinstance(shown, TextPreview):
        return shown.markup(titled=False)
    return shown.markup(titled=False, unfolded=at == 0)


def pictures(looked: Looked) -> dict[str, bytes]:
    """A PNG file for each row with an image, by the first digits of its id; under "" all of them in one."""
    made = {row.id[:12]: row.preview.png() for row in looked.rows if not isinstance(row.preview, TextPreview)}
    if not made:
        return {}
    sheets = [Image.open(io.BytesIO(data)) for data in made.values()]
    size = (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets))
    whole = Image.new("RGB", size, PAPER)
    at = 0
    for sheet in sheets:
        whole.paste(sheet, (0, at))
        at += sheet.height
    out = io.BytesIO()
    whole.save(out, "PNG")
    return {**made, "": out.getvalue()}
