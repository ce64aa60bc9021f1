"""Policies in other people's languages: strings, tuples, dictionaries.

========================  ==================================================================  ====
format                    what it looks like                                                  dump
========================  ==================================================================  ====
``gristmill``             a policy's own JSON, or its fields                                  yes
``timm``                  ``rand-m9-mstd0.5-inc1``, ``original``, ``v0``, ``3a``              yes
``torchvision``           ``ra``, ``ta_wide``, ``autoaugment(svhn)``                          yes
``fast``                  ``[[("Contrast", 0.8, 0.67), ("Rotate", 0.2, 0.1)], ...]``          yes
``autoaugment``           the same with magnitudes 0 .. 9                                     yes
``pba``                   ``[(10, [("Rotate", 0.5, 3), ...]), ...]``                          no
``albumentations``        ``A.to_dict(...)``, and what ``A.save`` writes (JSON, YAML)         yes
========================  ==================================================================  ====
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal

from augment.interchange import albumentations, pba, timm, torchvision, tuples
from augment.interchange.errors import InterchangeError, InterchangeWarning
from augment.policy import Policy

__all__ = ["FORMATS", "Format", "InterchangeError", "InterchangeWarning", "dump", "load", "named"]

Format = Literal["gristmill", "timm", "torchvision", "fast", "autoaugment", "pba", "albumentations"]
FORMATS: tuple[Format, ...] = (
    "gristmill", "timm", "torchvision", "fast", "autoaugment", "pba", "albumentations",
)  # fmt: skip
_PAIR = 2


def load(source: object, format: Format | None = None, *, side: int | None = None) -> Policy:  # noqa: A002
    """The policy that a text or an object means.

    Args:
        source: a string, or the text of a JSON, YAML or Python list or dictionary, or the object itself.
        format: one of :data:`FORMATS`; None: what it looks like.
        side: of the images, in pixels; only formats with magnitudes in pixels ask for it.

    Raises:
        InterchangeError: it is none of these, or has a part that a policy cannot express.
        ValueError: for a policy's own JSON that is wrong.

    >>> load("rand-m7-n3").draws
    3
    >>> load("[[('Rotate', 0.5, 0.9)], [('Invert', 0.1, 0.0)]]").name
    'fast'
    """
    if isinstance(source, Policy):
        return source
    data = source.strip() if isinstance(source, str) else source
    if isinstance(data, str) and not _is_name(data):
        data = _parsed(data)
    chosen = format or _guess(data)
    if chosen not in FORMATS:
        raise InterchangeError(f"no format is called {chosen!r}; there are {', '.join(FORMATS)}")
    if isinstance(data, str) != (chosen in {"timm", "torchvision"}):
        what = "a string" if isinstance(data, str) else f"a {type(data).__name__}"
        raise InterchangeError(f"{what} is no policy in the format {chosen!r}")
    readers: Mapping[str, Callable[[Any], Policy]] = {
        "gristmill": Policy.model_validate,
        "timm": timm.load,
        "torchvision": torchvision.load,
        "fast": partial(tuples.load_fast, side=side),
        "autoaugment": tuples.load_autoaugment,
        "pba": partial(pba.load, side=side or pba.SIDE),
        "albumentations": albumentations.load,
    }
    return readers[chosen](data)


def dump(policy: Policy, format: Format) -> Any:  # noqa: A002
    """The policy in a format: a string, a list of lists of tuples, or a dictionary.

    ``load(dump(policy, format), format)`` is the policy again, apart from its name.

    Raises:
        InterchangeError: the format cannot express a part of the policy; the message names it.

    >>> dump(load("rand-m7-n3"), "timm")
    'rand-m7-n3'
    """
    writers: Mapping[str, Callable[[Policy], Any]] = {
        "gristmill": partial(Policy.model_dump, mode="json"),
        "timm": timm.dump,
        "torchvision": torchvision.dump,
        "fast": tuples.dump_fast,
        "autoaugment": tuples.dump_autoaugment,
        "albumentations": albumentations.dump,
    }
    if format == "pba":
        raise InterchangeError("pba: such schedules are read, not written; a policy's own JSON keeps them")
    if format not in writers:
        raise InterchangeError(f"no format is called {format!r}; there are {', '.join(FORMATS)}")
    return writers[format](policy)


def named(text: str) -> Policy | None:
    """The policy of a timm or torchvision string; None where the text is not in either language.

    Raises:
        InterchangeError: it is, but wrong.
    """
    if timm.speaks(text):
        return timm.load(text)
    return torchvision.load(text) if torchvision.speaks(text) else None


def _is_name(text: str) -> bool:
    return timm.speaks(text) or torchvision.speaks(text) or not any(mark in text for mark in "[{:\n")


def _parsed(text: str) -> object:
    for read in (json.loads, ast.literal_eval, _yaml):
        try:
            data: object = read(text)
        except (ValueError, SyntaxError):
            continue
        return data
    raise InterchangeError(f"neither JSON nor a Python literal nor YAML: {text[:40]!r}")


def _yaml(text: str) -> object:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _guess(data: object) -> Format:
    if isinstance(data, str):
        return _language(data)
    if isinstance(data, Mapping):
        return "gristmill" if "subpolicies" in data else "albumentations"
    if not isinstance(data, (list, tuple)) or not data:
        raise InterchangeError(f"a {type(data).__name__} is no policy in any format: {', '.join(FORMATS)}")
    first = data[0]
    if isinstance(first, (list, tuple)) and len(first) == _PAIR and isinstance(first[0], int):
        return "pba"
    magnitudes = [magnitude for sub in tuples.triples(data) for _, _, magnitude in sub]
    return "autoaugment" if all(isinstance(magnitude, int) for magnitude in magnitudes) else "fast"


def _language(text: str) -> Format:
    if timm.speaks(text):
        return "timm"
    if torchvision.speaks(text):
        return "torchvision"
    words = ("rand-m9", "original", "v0", "3a", *torchvision.NAMES)
    close = get_close_matches(text.lower(), words, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(words)}"
    raise InterchangeError(f"{text!r} is no policy: {hint}")
