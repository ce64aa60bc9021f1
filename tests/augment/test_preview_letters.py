"""Captions in letters that Pillow's own font lacks."""

from __future__ import annotations

from PIL import ImageFont

from augment.preview import letters
from augment.preview.letters import lettered


def test_without_a_font_a_character_is_written_by_its_number(monkeypatch) -> None:
    monkeypatch.setattr(letters, "_of_the_system", lambda _size: ())
    said, font = lettered("猫 café\t😀", 12)
    assert said == r"\u732b caf\xe9?\U0001f600"
    assert font is letters._built_in(12)


def test_the_font_with_most_of_the_letters_is_taken(monkeypatch) -> None:
    own, chinese, greek = (ImageFont.load_default(size) for size in (12, 13, 14))
    has = {own: "cat !", chinese: "cat 猫!", greek: "λ "}
    monkeypatch.setattr(letters, "_built_in", lambda _size: own)
    monkeypatch.setattr(letters, "_of_the_system", lambda _size: (greek, chinese))
    monkeypatch.setattr(letters, "_has", lambda font, c: c in has[font])
    assert lettered("猫 cat!", 12) == ("猫 cat!", chinese)
    assert lettered("cat", 12) == ("cat", own)
    assert lettered("猫cat λ", 12) == (r"猫cat \u03bb", chinese)
