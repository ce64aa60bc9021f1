"""YAML with a place for every value: a strict subset of YAML 1.2, read into nodes with line and column.

What is left out, so that a configuration means what it says: tags, anchors, aliases and merge keys
(nothing can refer, so nothing can blow up), several documents in one file, keys that are not
scalars, and YAML 1.1's surprises (``no``, ``on`` and ``1_000`` are strings here). Everything that is
wrong is collected; only a syntax error ends the reading, because what follows it cannot be trusted.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

__all__ = ["Mapping", "Node", "Problem", "Scalar", "Sequence", "Source", "closest", "emit", "parse", "suggest"]

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
_SNIPPET_WIDTH = 100

_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?[0-9]+\Z")
_OCT = re.compile(r"0o[0-7]+\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_INF = re.compile(r"[-+]?(?:\.inf|\.Inf|\.INF)\Z")
_NAN = re.compile(r"(?:\.nan|\.NaN|\.NAN)\Z")
_MAX_DIGITS = 400  # Python refuses to parse integers over 4,300 digits, and nobody means one


@dataclass(frozen=True, slots=True)
class Source:
    """A text with a name: a file, or one ``--set`` option."""

    name: str
    text: str
    prefix: int = 0
    """How many characters of the text come before the YAML (``path=`` of an override)."""

    def snippet(self, line: int, column: int, width: int = 1) -> str:
        """The line with a caret under the column; both count from 1."""
        lines = self.text.splitlines() or [""]
        if not 1 <= line <= len(lines):
            return ""
        text = lines[line - 1].replace("\t", " ")
        start = max(0, column - 1 - _SNIPPET_WIDTH // 2) if len(text) > _SNIPPET_WIDTH else 0
        shown = text[start : start + _SNIPPET_WIDTH]
        carets = "^" * max(1, min(width, len(shown) - (column - 1 - start)))
        gutter = f"{line:>5} | "
        return f"{gutter}{shown}\n{' ' * (len(gutter) - 2)}| {' ' * (column - 1 - start)}{carets}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, with its place. Lines and columns count from 1; line 0 means the whole file.

    >>> print(Problem("a.yaml", 3, 5, "unknown key 'stpes'", hint="did you mean 'steps'?"))
    a.yaml:3:5: unknown key 'stpes'
      do:  did you mean 'steps'?
    """

    file: str
    line: int
    column: int
    message: str
    path: str = ""
    hint: str = ""
    snippet: str = ""

    @property
    def where(self) -> str:
        """``file:line:col``, or the file alone where no line is to blame."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def __str__(self) -> str:
        place = f" (at {self.path})" if self.path else ""
        lines = [f"{self.where}: {self.message}{place}"]
        if self.snippet:
            lines.append(self.snippet)
        if self.hint:
            lines.append(f"  do:  {self.hint}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, object]:
        """The fields, for JSON."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "message": self.message,
            "path": self.path,
            "hint": self.hint,
        }


@dataclass(slots=True)
class Node:
    """A value and where it starts."""

    source: Source
    line: int
    column: int
    width: int

    def problem(self, message: str, *, path: str = "", hint: str = "") -> Problem:
        """A problem that points here."""
        from lake.storage import redact  # late: it brings Arrow

        snippet = redact(self.source.snippet(self.line, self.column, self.width))
        return Problem(self.source.name, self.line, self.column, message, path, hint, snippet)

    def plain(self) -> Any:
        """The value as Python's dict, list, str, int, float, bool or None; a bare place has none."""
        return None


@dataclass(slots=True)
class Scalar(Node):
    """A string, number, boolean or null."""

    value: str | int | float | bool | None
    text: str

    def plain(self) -> Any:
        """The value itself."""
        return self.value


@dataclass(slots=True)
class Sequence(Node):
    """A list."""

    items: list[Node] = field(default_factory=list)

    def plain(self) -> Any:
        """A list of plain values."""
        return [item.plain() for item in self.items]


@dataclass(slots=True)
class Mapping(Node):
    """Keys and values, in order."""

    keys: dict[str, Scalar] = field(default_factory=dict)
    values: dict[str, Node] = field(default_factory=dict)

    def plain(self) -> Any:
        """A dict of plain values."""
        return {key: node.plain() for key, node in self.values.items()}

    def put(self, key: Scalar, value: Node) -> None:
        """Set a key, new or known."""
        self.keys[key.text] = key
        self.values[key.text] = value


def closest(word: str, known: Iterable[str]) -> str | None:
    """The name most like the word, if any is like it; case does not count.

    >>> closest("Treshold", ["threshold", "seed"])
    'threshold'
    """
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else None


def suggest(word: str, known: Iterable[str]) -> str:
    """A did-you-mean, or nothing.

    >>> suggest("treshold", ["threshold", "seed"])
    "did you mean 'threshold'?"
    """
    close = closest(word, known)
    return f"did you mean {close!r}?" if close else ""


def resolve_plain(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means by the core schema of YAML 1.2 (section 10.3.2).

    >>> [resolve_plain(t) for t in ("no", "true", "0x10", "012", "1e3", "~", "1_000")]
    ['no', True, 16, 12, 1000.0, None, '1_000']
    """
    value: str | int | float | bool | None = text
    if _NULL.match(text):
        value = None
    elif _BOOL.match(text):
        value = text[0] in "tT"
    elif _INT.match(text):
        value = int(text) if len(text) <= _MAX_DIGITS else text
    elif _OCT.match(text) or _HEX.match(text):
        value = int(text, 0) if len(text) <= _MAX_DIGITS else text
    elif _FLOAT.match(text):
        value = float(text)
    elif _INF.match(text):
        value = float("-inf") if text[0] == "-" else float("inf")
    elif _NAN.match(text):
        value = float("nan")
    return value


class _Builder:
    """Turns the parser's events into nodes without recursion, so that depth is a limit and not a crash."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.root: Node | None = None
        self.documents = 0
        self._open: list[Mapping | Sequence] = []
        self._keys: list[Scalar | None] = []

    def feed(self, event: yaml.Event) -> bool:
        """Take one event; False ends the reading."""
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                at = self._at(event)
                self.problems.append(at.problem("a second document", hint="one file holds one pipeline"))
                return False
            return True
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, f"the alias *{event.anchor} is not allowed", "write the value out")
            self._add(self._scalar(event, "", plain=True))
            return True
        if isinstance(event, yaml.NodeEvent):
            self._marks(event)
        if isinstance(event, yaml.ScalarEvent):
            self._add(self._scalar(event, event.value, plain=event.style is None))
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            return self._start(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            node = self._open.pop()
            self._keys.pop()
            self._add(node)
        return True

    def _start(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> bool:
        if len(self._open) >= MAX_DEPTH:
            problem = self._at(event).problem(f"nested more than {MAX_DEPTH} levels deep")
            self.problems.append(problem)
            return False
        kind = Mapping if isinstance(event, yaml.MappingStartEvent) else Sequence
        at = self._at(event)
        self._open.append(kind(at.source, at.line, at.column, at.width))
        self._keys.append(None)
        return True

    def _add(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if isinstance(parent, Sequence):
            parent.items.append(node)
            return
        key = self._keys[-1]
        if key is None:
            self._keys[-1] = self._key(node)
            return
        self._keys[-1] = None
        if key.text in parent.keys:
            first = parent.keys[key.text]
            message = f"the key {key.text!r} is there twice (first on line {first.line})"
            self.problems.append(key.problem(message, hint="keep one of the two"))
            return
        parent.put(key, node)

    def _key(self, node: Node) -> Scalar:
        if isinstance(node, Scalar):
            if node.text == "<<" and node.value == "<<":
                self.problems.append(node.problem("merge keys (<<) are not allowed", hint="write the keys out"))
            return node
        self.problems.append(node.problem("a key must be a plain word, not a list or a mapping"))
        return Scalar(node.source, node.line, node.column, 1, "", f"<key at {node.line}:{node.column}>")

    def _marks(self, event: yaml.NodeEvent) -> None:
        tag = getattr(event, "tag", None)
        if event.anchor is not None:
            self._refuse(
                event, f"the anchor &{event.anchor} is not allowed", "write the value out where it is used"
            )
        if tag is not None and tag != "!":
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(
                event, f"the tag {shown} is not allowed", "values have no tags: quote a string, write a number"
            )

    def _refuse(self, event: yaml.Event, message: str, hint: str) -> None:
        self.problems.append(self._at(event).problem(message, hint=hint))

    def _at(self, event: yaml.Event) -> Node:
        start, end = event.start_mark, event.end_mark
        if start is None or end is None:  # the type allows it; the parser always sets both
            return Node(self.source, 1, 1, 1)
        column = start.column + 1 + (self.source.prefix if start.line == 0 else 0)
        width = end.column - start.column if end.line == start.line else 1
        return Node(self.source, start.line + 1, column, max(1, width))

    def _scalar(self, event: yaml.Event, text: str, *, plain: bool) -> Scalar:
        at = self._at(event)
        if any("\ud800" <= character <= "\udfff" for character in text):
            self.problems.append(at.problem("half of a surrogate pair is not a character"))
            text = ""
        value = resolve_plain(text) if plain else text
        return Scalar(at.source, at.line, at.column, at.width, value, text)


def parse(source: Source) -> tuple[Node | None, list[Problem]]:
    """The document as nodes, and all that is wrong with it; no node where the text is empty or unreadable."""
    text = source.text[source.prefix :]
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        too_large = f"larger than {MAX_BYTES:,} bytes"
        return None, [Problem(source.name, 0, 0, too_large, hint="is this the right file?")]
    builder = _Builder(source)
    try:
        for event in _events(text):
            if not builder.feed(event):
                return None, builder.problems
    except yaml.MarkedYAMLError as error:
        return None, [*builder.problems, _syntax(source, error)]
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        at = Node(source, line, column + (source.prefix if line == 1 else 0), 1)
        code = error.character if isinstance(error.character, int) else ord(error.character)
        return None, [at.problem(f"the character U+{code:04X} is not allowed in YAML")]
    return builder.root, builder.problems


def _events(text: str) -> Iterator[yaml.Event]:
    return iter(yaml.parse(text, Loader=yaml.SafeLoader))


def _syntax(source: Source, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    at = Node(source, line, column + (source.prefix if line == 1 else 0), 1)
    message = error.problem or "not YAML"
    hint = "check the indentation and the colons here and on the line above"
    if "'\\t'" in message:
        message, hint = "a tab where YAML wants spaces", "indent with spaces"
    elif "mapping values are not allowed" in message:
        message, hint = "a colon where no key can stand", "quote the text if the colon belongs to it"
    elif error.context:
        message = f"{message} ({error.context})"
    return at.problem(f"not YAML: {message}", hint=hint)


class _Dumper(yaml.SafeDumper):
    """Writes what :func:`parse` reads back: no aliases, and quotes wherever YAML 1.1 and 1.2 disagree."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  (PyYAML's signature)
        return True


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(resolve_plain(text), str) and text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _string)


def emit(value: object) -> str:
    """YAML for plain values; ``parse(emit(x))`` gives ``x`` back.

    >>> print(emit({"name": "no", "steps": [{"dedup.Exact": {}}]}), end="")
    name: 'no'
    steps:
    - dedup.Exact: {}
    """
    dumped: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return dumped
