"""From pydantic's errors to places in the document, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lake.errors import GristmillError
from pipeline.config.strictyaml import Mapping, Node, Problem, Scalar, Sequence, closest, resolve_plain, suggest

__all__ = ["describe", "validate"]

M = TypeVar("M", bound=BaseModel)
_SHOWN = 60
_COERCED = {"bool_type", "float_type", "int_from_float", "int_type", "string_type"}


def validate(
    cls: type[M],
    node: Mapping,
    plain: dict[str, Any],
    *,
    at: Node,
    path: str,
    strange: SequenceOf[str] = (),
) -> tuple[M | None, list[Problem]]:
    """The model of a mapping, or what is wrong with it.

    Types are checked as YAML gives them: no ``"5"`` for 5, no ``true`` for 1. A model may still convert
    by itself (a validator that reads ``64 MiB``), which is why the strict pass alone does not decide.

    Args:
        cls: the model.
        node: where its fields stand.
        plain: the values of the fields; the same as the node's, up to paths made absolute.
        at: what to point at where a field is missing.
        path: of the mapping in the document.
        strange: unknown keys that were reported already.
    """
    try:
        value, errors = _validated(cls, json.dumps(plain), node)
    except GristmillError as error:  # pydantic lets through what is no ValueError: a model that looks further
        why = f": {error.why}" if error.why else ""
        return None, [at.problem(f"{error.what}{why}", path=path, hint=error.hint or "")]
    problems = _explain(errors, _Target(cls, node, at, path, strange))
    return (None if problems else value), problems


def _validated(cls: type[M], text: str, node: Mapping) -> tuple[M | None, list[ErrorDetails]]:
    """The model of a JSON text, and the errors: all of a lax pass, and those of a strict one that count."""
    try:
        return cls.model_validate_json(text, strict=True), []
    except ValidationError as error:
        strict = error
    value: M | None = None
    errors: list[ErrorDetails] = []
    try:
        value = cls.model_validate_json(text)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    known = {each["loc"] for each in errors}
    for each in strict.errors(include_url=False):
        if each["type"] in _COERCED and each["loc"] not in known and _is_scalar(node, each["loc"]):
            errors.append(each)
    return value, errors


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an error's ``loc`` leads in the document."""

    error: ErrorDetails
    node: Node
    key: Node | None
    tokens: tuple[str, ...]
    branch: bool
    """Did the loc name a branch of a union on its way?"""


def _locate(error: ErrorDetails, root: Mapping) -> _Place:
    node: Node = root
    key: Node | None = None
    tokens: list[str] = []
    branch = False
    for step in error["loc"]:
        if isinstance(node, Mapping) and isinstance(step, str) and step in node.values:
            key, node = node.keys[step], node.values[step]
            tokens.append(step)
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            key, node = None, node.items[step]
            tokens.append(str(step))
        elif step == error["loc"][-1] and error["type"] == "missing":
            break
        else:
            branch = True
    return _Place(error, node, key, tuple(tokens), branch)


def _is_scalar(root: Mapping, loc: tuple[int | str, ...]) -> bool:
    node: Node = root
    for step in loc:
        if isinstance(node, Mapping) and step in node.values:
            node = node.values[str(step)]
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
    return isinstance(node, Scalar)


@dataclass(frozen=True, slots=True)
class _Target:
    """What is validated: the model, where its fields stand, what to blame for a missing one, and its path."""

    cls: type[BaseModel]
    root: Mapping
    at: Node
    path: str
    strange: SequenceOf[str]
    """Keys beside it that nobody knows: where one is like a missing key, it is misspelt, not missing."""


def _explain(errors: list[ErrorDetails], target: _Target) -> list[Problem]:
    places = [_locate(error, target.root) for error in errors]
    problems: dict[tuple[tuple[str, ...], str], Problem] = {}
    strange = [
        place.tokens[-1] for place in places if place.error["type"] == "extra_forbidden" and place.tokens
    ]
    for place in places:
        if place.error["type"] == "missing" and closest(
            str(place.error["loc"][-1]), [*strange, *target.strange]
        ):
            continue  # it is there, misspelt, and is told as an unknown key
        deeper = (other.tokens[: len(place.tokens)] == place.tokens != other.tokens for other in places)
        if place.branch and any(deeper):
            continue  # a branch of a union that fits less well than another
        same = [other for other in places if other.tokens == place.tokens and other.branch and place.branch]
        problem = _problem(place, same, target)
        problems.setdefault((place.tokens, problem.message), problem)
    return list(problems.values())


def _problem(place: _Place, same: list[_Place], target: _Target) -> Problem:
    kind, loc = place.error["type"], place.error["loc"]
    spot = ".".join([target.path, *place.tokens]).strip(".")
    here = target.at if place.node is target.root else place.node
    if kind == "missing":
        return here.problem(f"the key {str(loc[-1])!r} is missing", path=spot, hint=f"add {loc[-1]}: ...")
    if kind == "extra_forbidden" and place.key is not None:
        fields = sorted(_fields(target.cls, place.tokens[:-1]))
        hint = suggest(place.tokens[-1], fields) or _known(fields)
        return place.key.problem(f"unknown key {place.tokens[-1]!r}", path=spot, hint=hint)
    wants = list(dict.fromkeys(_want(other.error) for other in (same or [place])))
    if place.node is not target.root and all(want.startswith("must ") for want in wants):
        joined = " or ".join(want.removeprefix("must ") for want in wants).replace(" or be ", " or ")
        message = f"must {joined}, not {describe(here)}"
    else:
        message = "; ".join(wants)
    return here.problem(message, path=spot, hint=_advice(place))


_PARSED = {
    "bool_parsing": "must be true or false",
    "float_parsing": "must be a number",
    "int_parsing": "must be a whole number",
}


def _want(error: ErrorDetails) -> str:
    if error["type"] in _PARSED:
        return _PARSED[error["type"]]
    message = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    for opening in ("Input should be ", "String should "):
        if message.startswith(opening):
            verb = "must be " if opening == "Input should be " else "must "
            message = verb + message.removeprefix(opening)
    if error["type"] in {"model_type", "dict_type", "dataclass_type", "model_attributes_type"}:
        return "must be a mapping"
    return {
        "must be a valid list": "must be a list",
        "must be a valid tuple": "must be a list",
        "must be a valid array": "must be a list",
        "must be a valid string": "must be a string",
        "must be a valid number": "must be a number",
        "must be a valid integer": "must be a whole number",
        "must be a valid boolean": "must be true or false",
        "must be None": "must be null",
    }.get(message, message)


def _advice(place: _Place) -> str:
    node = place.node
    if not isinstance(node, Scalar):
        return ""
    if place.error["type"] in {*_COERCED, *_PARSED} and isinstance(node.value, str):
        if place.error["type"].startswith("bool_") and node.text.lower() in {"yes", "no", "on", "off"}:
            return "write true or false"
        if not isinstance(resolve_plain(node.text), str | None):
            return "take the quotes away"
    if place.error["type"] == "string_type" and node.value is not None:
        return f'put it in quotes: "{node.text}"'
    expected = str(place.error.get("ctx", {}).get("expected", ""))
    return suggest(node.text, re.findall(r"'([^']*)'", expected))


def _known(fields: list[str]) -> str:
    return f"known keys: {', '.join(fields)}" if fields else "it takes no settings"


def _fields(cls: type[BaseModel], tokens: tuple[str, ...]) -> set[str]:
    """The keys that a model, or the models nested at these tokens, know."""
    models = {cls}
    for token in tokens:
        if token.isdigit():
            continue
        annotations = [model.model_fields[token].annotation for model in models if token in model.model_fields]
        models = {inner for annotation in annotations for inner in _models(annotation)}
    return {info.alias or name for model in models for name, info in model.model_fields.items()}


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def describe(node: Node) -> str:
    """What stands there, in words.

    >>> from pipeline.config.strictyaml import Source, parse
    >>> describe(parse(Source("x", "no"))[0])
    "'no' (a string)"
    """
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    value = node.plain()
    if value is None:
        return "nothing"
    if isinstance(value, str):
        shown = value if len(value) <= _SHOWN else value[:_SHOWN] + "..."
        return f"{shown!r} (a string)"
    return str(node.text) if isinstance(node, Scalar) and len(node.text) <= _SHOWN else "a number"
