r"""The letters of captions: which font draws them, and what stands for those that none has.

Pillow brings a font with the Latin letters of Western Europe. For others a font of the machine is taken, if one
of those below is there. A character that the font lacks is written as Python writes it, ``\u4e2d``: an empty
box would say nothing, and the same box for all.
"""

from __future__ import annotations

from functools import cache

from PIL import ImageFont

__all__ = ["lettered"]

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Pillow looks for them where the system keeps its fonts: of Linux, macOS and Windows.
_OF_THE_SYSTEM = (
    "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "SourceHanSansSC-Regular.otf", "wqy-microhei.ttc",
    "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "Arial Unicode.ttf",
    "msyh.ttc", "DejaVuSans.ttf",
)  # fmt: skip
_NONE = "\U0010ffff"  # no character, so that every font draws what it draws for those that it lacks


def lettered(words: str, size: int) -> tuple[str, Font]:
    """A caption as it can be drawn, and the font that draws the most of it.

    >>> lettered("Rotate 12.4°", 11)[0]
    'Rotate 12.4°'
    """
    built_in = _built_in(size)
    if all(_has(built_in, c) for c in words):
        return words, built_in
    best = max((built_in, *_of_the_system(size)), key=lambda font: sum(_has(font, c) for c in words))
    return "".join(c if _has(best, c) else _escaped(c) for c in words), best


def _escaped(character: str) -> str:
    return character.encode("ascii", errors="backslashreplace").decode() if ord(character) > 0x7F else "?"  # noqa: PLR2004


@cache
def _built_in(size: int) -> Font:
    return ImageFont.load_default(size)


@cache
def _of_the_system(size: int) -> tuple[Font, ...]:
    found: list[Font] = []
    for name in _OF_THE_SYSTEM:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return tuple(found)


@cache
def _has(font: Font, character: str) -> bool:
    if not character.isprintable():
        return False
    if not isinstance(font, ImageFont.FreeTypeFont):  # a Pillow without FreeType: bitmaps
        return ord(character) < 0x100  # noqa: PLR2004  (Latin-1)
    return _drawn(font, character) != _drawn(font, _NONE)


@cache
def _drawn(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)
