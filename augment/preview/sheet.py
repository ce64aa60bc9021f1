"""A preview as one picture, with its captions drawn."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from augment.preview.letters import lettered
from augment.preview.page import several

if TYPE_CHECKING:
    from augment.preview.images import Cell, Preview

__all__ = ["PAPER", "Sheet", "layout", "png"]

_MARGIN, _GAP, _LINE = 16, 10, 14
_TEXT, _HEAD = 11, 14
_INK, _SOFT = (28, 27, 25), (93, 90, 84)
PAPER = (251, 250, 248)
"""The background."""

_IN_A_ROW = 9
"""Pictures: both directions of a signed op at four levels, and the middle."""


@dataclass
class Sheet:
    """Where everything stands, in pixels from the top left corner.

    Attributes:
        pictures: x, y and the cell.
        texts: x, y, size, whether it is soft, and the words.
    """

    width: int
    height: int = 0
    pictures: list[tuple[int, int, Cell]] = field(default_factory=list)
    texts: list[tuple[int, int, int, bool, str]] = field(default_factory=list)

    def head(self, words: str, *, size: int = _HEAD, soft: bool = False) -> None:
        """A line, or several, over the whole width."""
        for line in wrapped(words, self.width - 2 * _MARGIN, size):
            self.texts.append((_MARGIN, self.height, size, soft, line))
            self.height += size + 5

    def row(self, cells: tuple[Cell, ...] | list[Cell], cut: str = "") -> None:
        """Pictures side by side, with their captions; lines are broken where they are full."""
        while cells:
            wide = cells[0].shown.shape[1] + _GAP
            most = max(1, (self.width - 2 * _MARGIN + _GAP) // wide)
            self._line(cells[:most], wide, cut)
            cells = cells[most:]

    def _line(self, cells: tuple[Cell, ...] | list[Cell], wide: int, cut: str) -> None:
        below = self.height + max(cell.shown.shape[0] for cell in cells) + 3
        end = below
        for number, cell in enumerate(cells):
            x = _MARGIN + number * wide
            self.pictures.append((x, self.height, cell))
            words = cell.words.removeprefix(cut).strip() if cell.title != "original" else ""
            lines = wrapped(words, wide - _GAP, _TEXT)
            if several(cell):
                lines += [
                    part for line in cell.fused.splitlines() for part in wrapped(line, wide - _GAP, _TEXT)
                ]
            self.texts.append((x, below, _TEXT, False, cell.title))
            for at, line in enumerate(lines, 1):
                self.texts.append((x, below + at * _LINE, _TEXT, True, line))
            end = max(end, below + (len(lines) + 1) * _LINE)
        self.height = end + _GAP


def layout(preview: Preview) -> Sheet:
    """Where the pictures and captions of a preview stand."""
    every = [preview.original, *preview.samples.cells, *(cell for row in preview.levels for cell in row.cells)]
    least = max(cell.shown.shape[1] for cell in every)
    longest = max([0, *(len(row.cells) * (row.cells[0].shown.shape[1] + _GAP) for row in preview.levels)])
    samples = min(_IN_A_ROW // 2, len(preview.samples.cells) + 1) * (preview.original.shown.shape[1] + _GAP)
    sheet = Sheet(2 * _MARGIN - _GAP + max(longest, samples, least + _GAP, 320), _MARGIN)
    sheet.head(preview.title)
    sheet.head(preview.note, size=_TEXT, soft=True)
    sheet.height += _GAP
    sheet.row([preview.original, *preview.samples.cells])
    for row in preview.levels:
        sheet.head(row.name)
        if row.note:
            sheet.head(row.note, size=_TEXT, soft=True)
        sheet.row(row.cells, row.name)
    sheet.height += _MARGIN - _GAP
    return sheet


def png(preview: Preview) -> bytes:
    """The sheet as a PNG file."""
    sheet = layout(preview)
    paper = Image.new("RGB", (sheet.width, sheet.height), PAPER)
    pen = ImageDraw.Draw(paper)
    for x, y, size, soft, words in sheet.texts:
        said, letters = lettered(words, size)
        pen.text((x, y), said, fill=_SOFT if soft else _INK, font=letters)
    for x, y, cell in sheet.pictures:
        paper.paste(Image.fromarray(cell.shown), (x, y))
    out = io.BytesIO()
    paper.save(out, "PNG")
    return out.getvalue()


def wrapped(words: str, width: int, size: int) -> list[str]:
    """Lines no wider than that, but for a word that is."""
    lines: list[str] = []
    for word in words.split():
        longer = f"{lines[-1]} {word}" if lines else word
        said, letters = lettered(longer, size)
        if lines and letters.getlength(said) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
