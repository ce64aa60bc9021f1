"""What a policy does to an image, or to a text, to look at: pure functions, arrays in, a picture out.

>>> import numpy as np
>>> from augment.presets import preset
>>> shown = preview(preset("trivial_augment_wide"), np.zeros((28, 28, 1), np.uint8), id_=7, epochs=3)
>>> [cell.title for cell in shown.samples.cells]
['epoch 1', 'epoch 2', 'epoch 3']

In a notebook the value shows itself; ``shown.save("preview.html")`` and ``shown.save("preview.png")`` keep it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from augment.preview.images import Cell, Preview, Row, of_image, reach
from augment.preview.texts import TextPreview, TextSample, difference, of_text

if TYPE_CHECKING:
    from augment.policy import Policy
    from augment.targets import Targets

__all__ = [
    "Cell",
    "Preview",
    "Row",
    "TextPreview",
    "TextSample",
    "difference",
    "preview",
    "reach",
]


@overload
def preview(
    policy: Policy, image: str, id_: str | int, seed: int = 0, epochs: int = 8, **how: Any
) -> TextPreview: ...


@overload
def preview(
    policy: Policy,
    image: Any,
    id_: str | int,
    seed: int = 0,
    epochs: int = 8,
    targets: Targets | None = None,
    *,
    ops: Sequence[str] | None = None,
    partner: Any = None,
    montage: bool = False,
) -> Preview: ...


def preview(  # noqa: PLR0917  (in the order in which one thinks of them)
    policy: Policy,
    image: Any,
    id_: str | int,
    seed: int = 0,
    epochs: int = 8,
    targets: Targets | None = None,
    *,
    ops: Sequence[str] | None = None,
    partner: Any = None,
    montage: bool = False,
    **how: Any,
) -> Preview | TextPreview:
    """What a policy makes of one image: each op at a few levels, and the policy's own samples.

    Args:
        policy: the policy.
        image: uint8, uint16, or float32 in 0 .. 1, (h, w) or (h, w, c); or, for a policy of text ops, a string.
        id_: of the record, 32 hexadecimal digits or an integer: samples are those that the record gets.
        seed: 0 .. 2**64 - 1.
        epochs: samples are those of the epochs 1 to this: the copies 1 to this of ``augment.Apply``.
        targets: masks, boxes and keypoints of this one image; they are drawn where they move to.
        ops: show the levels of these ops only, one that the policy lacks over its whole range.
        partner: for MixUp and CutMix, an image of the same shape; unless given, the image itself, upside down.
        montage: of more than three channels show all, side by side, not the first three.
        how: of a text: further arguments of :func:`augment.text.apply_texts`, such as ``lexicon``.

    Returns:
        A value that a notebook shows, and that can be saved.

    Raises:
        ValueError: there is no such op, the image has no pixels, or the policy is for the other kind of data.
        TypeError: for another dtype.

    >>> import numpy as np
    >>> from augment import Policy
    >>> policy = Policy(subpolicies=[[{"op": "Rotate", "magnitude": (0, 0.5)}]])
    >>> shown = preview(policy, np.zeros((8, 8, 3), np.uint8), id_=1)
    >>> [cell.title for cell in shown.levels[0].cells]  # doctest: +NORMALIZE_WHITESPACE
    ['level -0.5', 'level -0.375', 'level -0.25', 'level -0.125', 'level 0', 'level 0.125', 'level 0.25',
     'level 0.375', 'level 0.5']
    """
    if isinstance(image, str):
        return of_text(policy, image, id_, seed, epochs, how)
    if how:
        raise TypeError(f"{next(iter(how))} goes with texts")
    return of_image(
        policy, image, id_, seed, epochs, targets=targets, ops=ops, partner=partner, montage=montage
    )
