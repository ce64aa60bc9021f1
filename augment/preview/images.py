"""The pictures of a preview: which ones, and what is done to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from augment import rng
from augment.engine import cpu
from augment.engine.compile import compile_programs
from augment.engine.programs import Programs
from augment.ops import NAMES, Applied, Range, Space, describe, find
from augment.policy.levels import Normal, law_of_magnitude, law_of_parameter
from augment.policy.schedule import Schedule
from augment.preview.display import Marks, Screen
from augment.targets import Targets, move

if TYPE_CHECKING:
    from augment.policy import Policy
    from augment.policy.choices import Choice

__all__ = ["Cell", "Preview", "Row", "of_image", "reach"]

Array = npt.NDArray[Any]
RGB = npt.NDArray[np.uint8]

SAMPLE, LEVEL = 160, 104
"""Pixels of the longer side of a sample, and of an op at a level, as shown."""

_SHARES = (0.25, 0.5, 0.75, 1.0)
_SPREAD = 2.0  # standard deviations about the mean that count as the reach of a normal magnitude


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One picture.

    Attributes:
        title: ``original``, ``level 0.25`` or ``epoch 3``.
        words: what was done.
        fused: how it was carried out: :meth:`augment.engine.compile.Compiled.explain`.
        targets: what belongs to it now.
        shown: uint8 (h, w, 3): enlarged or reduced, windowed, and with the targets drawn.
        exact: whether every pixel is shown.
    """

    title: str
    words: str
    fused: str
    targets: Targets | None
    shown: RGB
    exact: bool
    make: Callable[[], Array]
    """Makes the pixels."""

    @property
    def image(self) -> Array:
        """The pixels, of the original's shape and dtype; made anew each time, as many would not fit."""
        return self.make()


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Pictures that belong together.

    Attributes:
        name: the op, or ``samples``.
        note: more about it.
        cells: from the lowest level to the highest, or in the order of the epochs.
    """

    name: str
    note: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """What a policy makes of one image.

    Attributes:
        title: the policy's name and the id.
        note: how the image is shown.
        original: the image itself.
        samples: what the policy makes of it, epoch by epoch.
        levels: each op at a few levels.
    """

    title: str
    note: str
    original: Cell
    samples: Row
    levels: tuple[Row, ...]

    def markup(self, *, titled: bool = True, unfolded: bool = True) -> str:
        """A piece of HTML, without a style of its own; see :func:`augment.preview.page.markup`."""
        from augment.preview import page

        return page.markup(self, titled=titled, unfolded=unfolded)

    def html(self) -> str:
        """A page that stands alone, fetches nothing and runs nothing."""
        from augment.preview import page

        return page.document(self.title, self.markup())

    def png(self) -> bytes:
        """All pictures on one sheet, with their captions."""
        from augment.preview import sheet

        return sheet.png(self)

    def save(self, path: str | Path) -> Path:
        """Write a page (``.html``) or a sheet (``.png``); the same preview, the same bytes.

        Captions of a sheet beyond ASCII take a font of the machine: :mod:`augment.preview.letters`.

        Raises:
            ValueError: the name ends otherwise.
        """
        from augment.preview import page

        return page.save(path, self.html, self.png)

    def _repr_html_(self) -> str:
        from augment.preview import page

        return page.fragment(self.markup())

    def _repr_png_(self) -> bytes:
        return self.png()

    def __repr__(self) -> str:
        ops = ", ".join(row.name for row in self.levels)
        return f"<Preview of {self.title}: {len(self.samples.cells)} samples; {ops or 'no ops'}>"


class _Given(NamedTuple):
    """What all pictures of a preview are made from."""

    image: Array
    space: Space
    resampling: Any
    targets: Targets | None
    marks: Marks | None
    partner: Array

    def cell(self, title: str, programs: Programs, screen: Screen) -> Cell:
        """The picture after a program."""
        batch = self.image[None]
        compiled = compile_programs(programs, cpu.shape_of(batch), space=self.space, resampling=self.resampling)
        mixed = any(find(step.op).kind == "mix" for step in programs[0])

        def make() -> Array:
            made: Array = cpu.run(compiled, batch, partners=self.partner[None] if mixed else None)[0]
            return made

        # An image that is mixed with another one has no boxes of its own any more.
        moved = None if self.targets is None or mixed else move(compiled, self.targets)
        return Cell(
            title, describe(programs[0], self.space), compiled.explain(0), moved,
            screen.show(_three(make()), self._drawing(moved)), screen.exact, make,
        )  # fmt: skip

    def _drawing(self, targets: Targets | None) -> Callable[[RGB], RGB] | None:
        marks = self.marks
        if targets is None or marks is None:
            return None
        size = (self.image.shape[0], self.image.shape[1])
        return lambda picture: marks.draw(picture, targets, size)


def of_image(
    policy: Policy,
    image: Any,
    id_: str | int,
    seed: int,
    epochs: int,
    *,
    targets: Targets | None,
    ops: Sequence[str] | None,
    partner: Any,
    montage: bool,
) -> Preview:
    """The preview of an image; see :func:`augment.preview.preview`."""
    pixels = np.array(image)  # a copy: the cells make their pixels when they are asked for them
    if pixels.ndim not in {2, 3} or pixels.size == 0:
        raise ValueError(f"an image of shape {pixels.shape}: give (h, w) or (h, w, c), not empty")
    cpu.shape_of(pixels[None])  # the dtype
    _check_kind(policy)
    other = pixels[::-1, ::-1] if partner is None else np.array(partner)
    given = _Given(
        pixels, policy.space, policy.resampling, targets, None if targets is None else Marks(targets), other
    )
    large, small = (Screen.of(_three(pixels), most, montage=montage) for most in (SAMPLE, LEVEL))
    samples = [
        given.cell(f"epoch {epoch}", policy.at(epoch).draw([id_], seed, epoch), large)
        for epoch in range(1, epochs + 1)
    ]
    # Identity is the original once more.
    all_ops = [name for name in reaches(policy) if name != "Identity"]
    wanted = all_ops if ops is None else list(dict.fromkeys(find(name).name for name in ops))
    return Preview(
        title=f"{policy.name or 'policy'}, id {id_}, seed {seed}",
        note=large.caption(pixels.dtype) + _smaller(large, small),
        original=given.cell("original", Programs.of([[]]), large),
        samples=Row("samples", "", tuple(samples)),
        levels=tuple(_levels(given, policy, name, rng.Stream([id_], seed, 0), small) for name in wanted),
    )


def _smaller(large: Screen, small: Screen) -> str:
    if small.exact or not large.exact:
        return ""
    return f"; ops alone reduced to {small.size[1]} x {small.size[0]}"


def _check_kind(policy: Policy) -> None:
    if policy.modality == "text":
        raise ValueError("the policy works on texts: give a string in place of the image")


def _three(image: Array) -> Array:
    return image[..., None] if image.ndim == 2 else image  # noqa: PLR2004  (h, w)


# ---------------------------------------------------------------------------------------------- levels


def reach(policy: Policy, name: str) -> tuple[float, float] | None:
    """The lowest and the highest level that the policy draws of an op, in any epoch; None: it lacks the op.

    A level below 0 goes the other way. Of a normal distribution it is what lies within two standard deviations.

    >>> from augment import Policy
    >>> policy = Policy(subpolicies=[[{"op": "Rotate", "magnitude": (0, 0.5)}, {"op": "Jpeg", "magnitude": 1}]])
    >>> reach(policy, "Rotate"), reach(policy, "Jpeg"), reach(policy, "Blur")
    ((-0.5, 0.5), (0.0, 1.0), None)
    """
    return reaches(policy).get(name)


def reaches(policy: Policy) -> dict[str, tuple[float, float]]:
    """The reach of each op of a policy, in the order of the table of ops."""
    found: dict[str, tuple[float, float]] = {}
    for choice in (choice for sub in policy.subpolicies for choice in sub.choices):
        span = find(choice.spelt).range(policy.space)
        low, high = _ends(choice, span)
        if choice.signed and span.signed:
            high = max(abs(low), abs(high))
            low = -high
        before = found.get(choice.spelt, (0.0, 0.0))
        found[choice.spelt] = (min(low, before[0]), max(high, before[1]))
    place = {name: at for at, name in enumerate(NAMES)}
    return dict(sorted(found.items(), key=lambda item: (place.get(item[0], len(place)), item[0])))


def _ends(choice: Choice, span: Range) -> tuple[float, float]:
    """The levels of a choice, of all epochs."""
    value = choice.extent
    if span.full == span.zero:
        return 0.0, 0.0
    laws = []
    for each in _all_of(value):
        law = law_of_magnitude(each) if choice.parameter is None else law_of_parameter(each, span)
        low, high, spread, least, most = law
        if spread > 0:
            low, high = (min(max(low + side * _SPREAD * spread, least), most) for side in (-1, 1))
        laws += [low, high]
    return min(laws), max(laws)


def _all_of(value: Any) -> Iterable[Any]:
    """The values of all epochs."""
    if isinstance(value, Schedule):
        return (value.reach,)
    if isinstance(value, Normal) and isinstance(value.mean, Schedule):
        return (value.model_copy(update={"mean": end}) for end in value.mean.reach)
    return (value,)


def _levels(given: _Given, policy: Policy, name: str, stream: rng.Stream, screen: Screen) -> Row:
    """An op at shares of its reach, the same levels as :func:`augment.ops.apply_op` has them."""
    op = find(name)
    span = op.range(given.space)
    found = reach(policy, name)
    low, high = found or (-1.0 if span.signed else 0.0, 1.0)
    if not op.has_magnitude:
        levels = [0.0]
    else:
        levels = [low * share for share in reversed(_SHARES) if low < 0] + [0.0]
        levels += [high * share for share in _SHARES if high > 0]
    draws, key = stream.uniforms([0, 1, 2])[0], tuple(stream.keys([0])[0, 0].tolist())
    cells: dict[float, Cell] = {}
    for level in levels:
        parameter = float(span.parameter(level))
        if parameter not in cells:  # whole parameters repeat
            step = Applied(op.name, parameter, float(draws[1]), float(draws[2]), key)
            cells[parameter] = given.cell(_title(op.has_magnitude, level), Programs.of([[step]]), screen)
    return Row(op.name, f"{op.words}{'' if found else '; not in this policy'}", tuple(cells.values()))


def _title(has_magnitude: bool, level: float) -> str:
    return f"level {level:.3g}" if has_magnitude else "on"
