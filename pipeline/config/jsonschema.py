"""What steps look like from outside: a JSON Schema for editors, fields and examples for people."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from lake.op import Step
from pipeline.config.catalog import SINK_KEY, Entry, steps
from pipeline.config.model import Settings
from pipeline.config.strictyaml import emit

__all__ = ["Field", "example", "fields", "json_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MAX_SHOWN = 60
_EXAMPLES = 3


class Field(NamedTuple):
    """A setting of a step."""

    name: str
    type: str
    required: bool
    default: Any
    description: str

    @property
    def shown(self) -> str:
        """The default as YAML would have it, shortened."""
        text = json.dumps(self.default, ensure_ascii=False)
        return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def fields(cls: type[Step]) -> list[Field]:
    """The settings of a step, in the order in which it declares them."""
    whole = cls.model_json_schema()
    defs = whole.get("$defs", {})
    docs = _docstrings(cls)
    found = []
    for name, info in cls.model_fields.items():
        part = whole["properties"][info.alias or name]
        default = None if info.is_required() else _default(part, info.get_default(call_default_factory=True))
        text = info.description or docs.get(name, "")
        found.append(Field(info.alias or name, _words(part, defs), info.is_required(), default, prose(text)))
    return found


@lru_cache(maxsize=64)
def _docstrings(cls: type[BaseModel]) -> dict[str, str]:
    """The strings that stand under a class's fields in its source, where that can be read."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if not issubclass(each, BaseModel) or each is BaseModel:
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        except (OSError, SyntaxError):  # made in a console, or shipped without its source
            continue
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, text in pairwise(statements):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(text):
                found[field.target.id] = ast.literal_eval(text.value)  # type: ignore[attr-defined]
    return found


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def prose(text: str) -> str:
    r"""A docstring's text on one line, without the markup.

    >>> prose("See :func:`dedup.text.bands.choose`,\n    or ``None``.")
    'See `dedup.text.bands.choose`, or `None`.'
    """
    return " ".join(unmarked(text).split())


def unmarked(text: str) -> str:
    """A docstring without reStructuredText's roles and double backticks."""
    return re.sub(r"``", "`", re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text))


def _default(part: Mapping[str, Any], value: Any) -> Any:
    if "default" in part:
        return part["default"]
    if value is PydanticUndefined:
        return None
    return (
        value.model_dump(mode="json")
        if hasattr(value, "model_dump")
        else json.loads(json.dumps(value, default=str))
    )


def _words(part: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """A schema in words: ``number from 0 to 1``, ``list of string``, ``"word" or "char"``."""
    if "$ref" in part:
        part = {**defs.get(part["$ref"].rsplit("/", 1)[-1], {}), **part}
    if "enum" in part:
        return " or ".join(json.dumps(each) for each in part["enum"])
    if "const" in part:
        return json.dumps(part["const"])
    for union in ("anyOf", "oneOf"):
        if union in part:
            return " or ".join(dict.fromkeys(_words(each, defs) for each in part[union]))
    kind = str(part.get("type", "anything"))
    if kind == "array":
        items = part.get("items") or {}
        return f"list of {_words(items, defs)}" if items else "list"
    low, high = part.get("minimum"), part.get("maximum")
    above, below = part.get("exclusiveMinimum"), part.get("exclusiveMaximum")
    limits = [f"at least {low}"] * (low is not None) + [f"more than {above}"] * (above is not None)
    limits += [f"at most {high}"] * (high is not None) + [f"less than {below}"] * (below is not None)
    return " ".join([{"object": "mapping", "null": "null"}.get(kind, kind), " and ".join(limits)]).strip()


def example(entry: Entry) -> str:
    """A part of a configuration with this step, which loads wherever its settings can be guessed."""
    known = fields(entry.cls)
    needed = {each.name: _sample(each) for each in known if each.required}
    simple = [each for each in known if isinstance(each.default, bool | int | float | str)]
    guesses = [needed] if needed else [{each.name: each.default for each in simple[:_EXAMPLES]}]
    guesses += [{**needed, each.name: _sample(each)} for each in known]  # one of several may be required
    shown = next((guess for guess in guesses if _fits(entry.cls, guess)), guesses[0])
    value: dict[str, Any] = {entry.key: shown}
    place = {"source": "source", "sink": "sink"}.get(entry.kind)
    return emit({place: value} if place else {"steps": [value]}).rstrip("\n")


def _fits(cls: type[Step], settings: dict[str, Any]) -> bool:
    try:
        cls.model_validate(settings)
    except ValidationError:
        return False
    return True


def _sample(field: Field) -> Any:
    if field.name == "paths":
        return "data/**/*.jsonl"
    if field.type.startswith('"'):
        return json.loads(field.type.split(" or ")[0])
    first = field.type.split(" ")[0]
    samples: dict[str, Any] = {"integer": 1, "number": 0.5, "boolean": True, "list": [], "mapping": {}}
    return samples.get(first, "...")


def json_schema(plugins: Iterable[str] = ()) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of configurations: the steps of this installation and the plugins."""
    definitions: dict[str, Any] = {}
    by_place: dict[str, list[dict[str, Any]]] = {"source": [], "step": [], "sink": []}
    for each in steps(plugins):
        place = "step" if each.kind in {"op", "barrier"} else each.kind
        by_place[place] += _forms(each, definitions)
    for place, forms in by_place.items():
        definitions[f"any {place}"] = {"oneOf": forms}
    top = Settings.model_json_schema()
    definitions |= top.pop("$defs", {})
    one = {"$ref": "#/$defs/any%20source"}
    properties: dict[str, Any] = {
        "name": top["properties"]["name"],
        "lake": top["properties"]["lake"],
        "source": {
            "description": "The files to read: one source or a list.",
            "anyOf": [one, {"type": "array", "items": one, "minItems": 1}],
        },
        "steps": {
            "description": "What happens to the rows, in order.",
            "type": "array",
            "items": {"$ref": "#/$defs/any%20step"},
        },
        "sink": {"description": "The table to fill.", "$ref": "#/$defs/any%20sink"},
    }
    return {
        "$schema": DIALECT,
        "title": "A Gristmill pipeline",
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "lake", "source"],
        "properties": {**properties, **{k: v for k, v in top["properties"].items() if k not in properties}},
        "$defs": definitions,
    }


def _forms(entry: Entry, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """``{key: {settings}}`` and, where nothing is required, ``{key: null}`` and the bare key."""
    prefix = f"#/$defs/{entry.key}."
    own = entry.cls.model_json_schema(ref_template=prefix + "{model}")
    for name, inner in own.pop("$defs", {}).items():
        definitions[f"{entry.key}.{name}"] = inner
    own["description"] = prose(entry.summary)
    for each in fields(entry.cls):
        if each.description and "description" not in own["properties"][each.name]:
            own["properties"][each.name]["description"] = each.description
    own.pop("title", None)
    optional = not own.get("required")
    definitions[entry.key] = own
    settings: dict[str, Any] = {"$ref": f"#/$defs/{entry.key}"}
    form = {
        "type": "object",
        "description": prose(entry.summary),
        "properties": {entry.key: {"oneOf": [settings, {"type": "null"}]} if optional else settings},
        "required": [entry.key],
        "additionalProperties": False,
    }
    bare = {"const": entry.key, "description": prose(entry.summary)}
    return [form, bare] if optional and entry.key != SINK_KEY else [form]
