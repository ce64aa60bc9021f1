"""What a policy makes of a text, with the changes marked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from augment.ops import describe

if TYPE_CHECKING:
    from augment.policy import Policy

__all__ = ["TextPreview", "TextSample", "difference", "of_text", "printable"]

Kind = Literal["same", "deleted", "inserted"]

# Scripts without spaces compare by character, all others by word; white space is a token too: nothing is lost.
_WIDE = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"\s+|[{_WIDE}]|[^\s{_WIDE}]+")
_MOST_TOKENS = 4_000  # compared: difflib is quadratic
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")

_PLAIN = {"same": "{}", "deleted": "[-{}-]", "inserted": "{{+{}+}}"}
_COLOURED = {"same": "{}", "deleted": "\x1b[31;9m{}\x1b[0m", "inserted": "\x1b[32m{}\x1b[0m"}
_TAGS = {"same": "{}", "deleted": "<del>{}</del>", "inserted": "<ins>{}</ins>"}


class Piece(NamedTuple):
    """A stretch of text that both have, or one of them."""

    kind: Kind
    text: str


def difference(before: str, after: str) -> list[Piece]:
    """What was deleted and inserted, by words (Chinese, Japanese and Thai: by characters).

    >>> [tuple(piece) for piece in difference("a good film", "a fine film")]
    [('same', 'a '), ('deleted', 'good'), ('inserted', 'fine'), ('same', ' film')]
    """
    a, b = _TOKEN.findall(before), _TOKEN.findall(after)
    if max(len(a), len(b)) > _MOST_TOKENS:
        return (
            [Piece("deleted", before), Piece("inserted", after)] if before != after else [Piece("same", before)]
        )
    pieces: list[Piece] = []
    for tag, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(Piece("same", "".join(a[i:j])))
            continue
        if i < j:
            pieces.append(Piece("deleted", "".join(a[i:j])))
        if k < m:
            pieces.append(Piece("inserted", "".join(b[k:m])))
    return pieces


@dataclass(frozen=True, slots=True)
class TextSample:
    """A text of one epoch, and what was done, in words."""

    epoch: int
    words: str
    text: str


@dataclass(frozen=True, slots=True)
class TextPreview:
    """What a policy makes of one text.

    Attributes:
        title: the policy's name and the id.
        original: the text itself.
        samples: what the policy makes of it, epoch by epoch.

    >>> shown = TextPreview("eda, id 7", "a good film", (TextSample(1, "swap", "a film good"),))
    >>> print(shown.terminal())
    original  a good film
    epoch 1   swap
              a {+film +}good[- film-]
    """

    title: str
    original: str
    samples: tuple[TextSample, ...]

    def terminal(self, *, colour: bool = False) -> str:
        """For a terminal: ``[-deleted-]`` and ``{+inserted+}``, or red and green."""
        wide = max([len("original"), *(len(f"epoch {each.epoch}") for each in self.samples)])
        lines = [f"{'original':<{wide}}  {printable(self.original)}"]
        for each in self.samples:
            marked = "".join(
                (_COLOURED if colour else _PLAIN)[piece.kind].format(printable(piece.text))
                for piece in difference(self.original, each.text)
            )
            lines += [f"{f'epoch {each.epoch}':<{wide}}  {each.words}", f"{'':<{wide}}  {marked}"]
        return "\n".join(lines)

    def markup(self, *, titled: bool = True) -> str:
        """A piece of HTML, without a style of its own."""
        title = f'<p class="gm-note"><b>{_safe(self.title)}</b></p>' if titled else ""
        parts = [
            '<div class="gm-preview">', title,
            "<h3>Original</h3>", f'<p class="gm-text" dir="auto">{_safe(self.original)}</p>',
            "<h3>What the policy makes of it</h3>",
        ]  # fmt: skip
        for each in self.samples:
            marked = "".join(
                _TAGS[piece.kind].format(_safe(piece.text)) for piece in difference(self.original, each.text)
            )
            parts += [
                f'<p class="gm-note"><b>epoch {each.epoch}</b> {_safe(each.words)}</p>',
                f'<p class="gm-text" dir="auto">{marked}</p>',
            ]
        return "\n".join([*parts, "</div>"])

    def html(self) -> str:
        """A page that stands alone, fetches nothing and runs nothing."""
        from augment.preview import page

        return page.document(self.title, self.markup())

    def save(self, path: str | Path) -> Path:
        """Write a page, ``.html``.

        Raises:
            ValueError: the name ends otherwise.
        """
        from augment.preview import page

        return page.save(path, self.html, None)

    def _repr_html_(self) -> str:
        from augment.preview import page

        return page.fragment(self.markup())


def of_text(  # noqa: PLR0917  (the arguments of preview)
    policy: Policy, text: str, id_: str | int, seed: int, epochs: int, how: Mapping[str, Any]
) -> TextPreview:
    """The preview of a text; see :func:`augment.preview.preview`."""
    from augment.text import apply_texts

    if policy.modality != "text":
        raise ValueError("the policy works on images: give an array in place of the string")
    samples = []
    for epoch in range(1, epochs + 1):
        now = policy.at(epoch)
        made = str(apply_texts(now, [text], [id_], seed=seed, epoch=epoch, **how)[0])
        words = describe(now.draw([id_], seed, epoch)[0], policy.space) if made != text else "unchanged"
        samples.append(TextSample(epoch, words, made))
    return TextPreview(f"{policy.name or 'policy'}, id {id_}, seed {seed}", text, tuple(samples))


def _safe(text: str) -> str:
    return escape(_CONTROL.sub("\ufffd", text))


def printable(text: str) -> str:
    """The text without control characters: those of a record must not reach the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
