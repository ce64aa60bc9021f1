"""``--set path=value``: an edit of the document before it is read.

An override is the edit that it names: ``load(path, ["seed=3"])`` equals loading the file with ``seed: 3``
in it. Items are counted from 1, as in the labels of plans and reports (``1 dedup.MinHash``), or named
by their key, and the key of a single-key mapping may be left out: ``steps.1.threshold`` and
``steps.dedup.MinHash.threshold`` both reach into ``{dedup.MinHash: {threshold: 0.8}}``, and
``source.paths`` into ``{lake.Files: {paths: ...}}``.
"""

from __future__ import annotations

from pipeline.config.strictyaml import Mapping, Node, Problem, Scalar, Sequence, Source, parse

__all__ = ["apply"]

_EXAMPLE = "write it as in --set steps.1.threshold=0.7"
_STEP_PLACES = ("source", "steps", "sink")


def apply(root: Mapping, text: str) -> list[Problem]:
    """Change the document in place; what is wrong with the override comes back."""
    path, equals, _ = text.partition("=")
    source = Source("--set", text, prefix=len(path) + 1)
    at = Scalar(source, 1, 1, max(1, len(path)), path, path)
    if not equals or not path.strip():
        return [at.problem(f"{text!r} is not path=value", hint=_EXAMPLE)]
    tokens = path.strip().split(".")
    if not all(tokens):
        return [at.problem(f"the path {path!r} has an empty part", hint=_EXAMPLE)]
    value, problems = parse(source)
    if problems:
        return problems
    if value is None:
        value = Scalar(source, 1, len(text) + 1, 1, None, "")
    problem = _put(root, tokens, value, at)
    return [problem] if problem else []


def _put(root: Mapping, tokens: list[str], value: Node, at: Scalar) -> Problem | None:
    node: Node = root
    rest = list(tokens)
    while True:
        if isinstance(node, Sequence):
            index = _index(node, rest, at)
            if isinstance(index, Problem):
                return index
            if not rest:
                node.items[index] = value
                return None
            child = node.items[index] = _open(node.items[index])
            node = child
        elif isinstance(node, Mapping):
            key = _key(node, rest, inside=node is not root)
            if not rest:
                node.put(_scalar(at, key), value)
                return None
            known = node.values.get(key)
            child = _open(known) if known is not None else Mapping(at.source, 1, 1, at.width)
            node.put(node.keys.get(key, _scalar(at, key)), child)
            node = child
        else:
            done = ".".join(tokens[: len(tokens) - len(rest)])
            return at.problem(f"{done!r} is a single value, nothing lies under it", hint=_EXAMPLE)


def _index(node: Sequence, rest: list[str], at: Scalar) -> int | Problem:
    """Which item the path means; what it used is taken off `rest`."""
    if rest[0].isdecimal() and rest[0].isascii():
        number = int(rest.pop(0))
        if not 1 <= number <= len(node.items):
            return at.problem(f"there is no item {number}: the list has {len(node.items)}, counted from 1")
        return number - 1
    spelled = ".".join(rest)
    found = [i for i, item in enumerate(node.items) if any(_starts(spelled, key) for key in _keys(item))]
    if len(found) == 1:
        return found[0]  # `rest` stays: the key is used up inside the item
    if found:
        numbers = ", ".join(str(index + 1) for index in found)
        return at.problem(f"{spelled!r} could mean several items: {numbers}", hint="use the item's number")
    return at.problem(
        f"{rest[0]!r} is no item of the list", hint="items are counted from 1, or named by their key"
    )


def _key(node: Mapping, rest: list[str], *, inside: bool) -> str:
    """Which key the path means: keys of steps hold dots, and may be left out."""
    spelled = ".".join(rest)
    for key in sorted(node.values, key=len, reverse=True):
        if _starts(spelled, key):
            del rest[: key.count(".") + 1]
            return key
    if inside and len(node.values) == 1 and "." in next(iter(node.values)):
        return next(iter(node.values))  # `rest` stays: it goes on inside
    return rest.pop(0)


def _starts(spelled: str, key: str) -> bool:
    return spelled == key or spelled.startswith(f"{key}.")


def _keys(item: Node) -> tuple[str, ...]:
    if isinstance(item, Mapping):
        return tuple(item.values)
    return (item.text,) if isinstance(item, Scalar) else ()


def _open(node: Node) -> Node:
    """A step without settings (``- dedup.Exact``), or nothing at all, is like an empty mapping."""
    if not isinstance(node, Scalar):
        return node
    if node.value is None:
        return Mapping(node.source, node.line, node.column, node.width)
    if isinstance(node.value, str) and "." in node.value and " " not in node.value:
        opened = Mapping(node.source, node.line, node.column, node.width)
        opened.put(node, Mapping(node.source, node.line, node.column, node.width))
        return opened
    return node


def _scalar(at: Scalar, key: str) -> Scalar:
    return Scalar(at.source, at.line, at.column, at.width, key, key)
