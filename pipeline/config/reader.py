"""From a YAML document to a :class:`~pipeline.config.Config`, or to all that is wrong with it."""

from __future__ import annotations

import codecs
import os
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import Any, NamedTuple

from lake.op import Step
from pipeline.config import overrides as edits
from pipeline.config.catalog import SINK_KEY, UnknownNameError, kind_of, plugin, resolve
from pipeline.config.complaints import describe, validate
from pipeline.config.model import (
    Config,
    InvalidConfigError,
    Settings,
    Sink,
    clash,
    late_barrier,
    resource_names,
)
from pipeline.config.resources import Resources
from pipeline.config.strictyaml import (
    MAX_BYTES,
    Mapping,
    Node,
    Problem,
    Scalar,
    Sequence,
    Source,
    closest,
    parse,
    suggest,
)

__all__ = ["read", "read_text"]

_PLACES = ("source", "steps", "sink")
_KEYS = ("name", "lake", *_PLACES, *(key for key in Settings.model_fields if key not in {"name", "lake"}))
_EXAMPLE = {
    "source": "write source: {lake.Files: {paths: data/*.jsonl}}",
    "steps": "write a list: - dedup.MinHash: {threshold: 0.8}",
    "sink": "write sink: {lake.Table: {name: train}}",
}


def read_text(path: Path) -> Source:
    """The text of a configuration file.

    Raises:
        InvalidConfigError: it cannot be read, or is not UTF-8.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        hint = "`gristmill init` writes one"
        raise InvalidConfigError([Problem(name, 0, 0, "there is no such file", hint=hint)]) from error
    except IsADirectoryError as error:
        inside = path / "gristmill.yaml"
        hint = f"give the file: {inside}" if inside.is_file() else "give the YAML file"
        raise InvalidConfigError([Problem(name, 0, 0, "this is a folder", hint=hint)]) from error
    except OSError as error:
        raise InvalidConfigError([Problem(name, 0, 0, f"cannot be read: {error.strerror}")]) from error
    if len(data) > MAX_BYTES:
        message = f"larger than {MAX_BYTES:,} bytes"
        raise InvalidConfigError([Problem(name, 0, 0, message, hint="is this the right file?")])
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return Source(name, data.decode("utf-8"))
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8")
        line, column = good.count("\n") + 1, len(good) - (good.rfind("\n") + 1) + 1
        message = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        raise InvalidConfigError(
            [Problem(name, line, column, message, hint="save the file as UTF-8")]
        ) from error


def read(source: Source, overrides: SequenceOf[str], *, base: Path) -> Config:
    """Parse, edit, resolve, validate.

    Raises:
        InvalidConfigError: every problem of every part, in the order of the document.
    """
    root, problems = parse(source)
    if root is None and not problems:
        problems = [
            Problem(source.name, 0, 0, "the configuration is empty", hint="`gristmill init` writes one")
        ]
    if root is None:
        raise InvalidConfigError(problems)
    if not isinstance(root, Mapping):
        message = f"must be a mapping with the keys name, lake and source, not {describe(root)}"
        raise InvalidConfigError([*problems, root.problem(message)])
    for override in overrides:
        problems += edits.apply(root, override)
    refused = {_place(each) for each in problems}
    found: list[Problem] = []
    config = _Reading(root, base, found).config()
    # What was refused already has no value of its own: what the models say of it is an echo.
    problems += [each for each in dict.fromkeys(found) if _place(each) not in refused]
    if config is None or problems:
        raise InvalidConfigError(
            sorted(problems, key=lambda each: (each.file != source.name, *_place(each)[1:]))
        )
    return config


def _place(problem: Problem) -> tuple[str, int, int]:
    return problem.file, problem.line, problem.column


class _Found(NamedTuple):
    step: Step
    node: Node


class _Reading:
    """One pass over the document; problems are collected in the list that is given."""

    def __init__(self, root: Mapping, base: Path, problems: list[Problem]) -> None:
        self.root = root
        self.base = base
        self.problems = problems
        self.plugins: list[str] = []
        self.strange = [key for key in root.values if key not in _KEYS]

    def config(self) -> Config | None:
        """The configuration, if nothing at all is wrong."""
        self._plugins()
        settings = self._settings()
        source = self._list("source", single=True)
        steps = self._list("steps", single=False)
        sink = self._sink()
        resources = self._resources([each.step for each in steps])
        if (late := late_barrier([each.step for each in steps])) and not self.problems:
            self.problems.append(
                steps[late[0]].node.problem(late[1], path=f"steps.{late[0] + 1}", hint="move it up")
            )
        if settings and (complaint := clash(settings.raw, settings.clean, sink.name)):
            at = next(
                (self.root.keys[key] for key in ("sink", "clean", "raw") if key in self.root.keys), self.root
            )
            self.problems.append(at.problem(complaint, hint="rename one of them"))
        if self.problems or settings is None:
            return None
        values = {name: getattr(settings, name) for name in Settings.model_fields} | {"resources": resources}
        return Config(
            **values,
            source=tuple(each.step for each in source),
            steps=tuple(each.step for each in steps),
            sink=sink,
            base=self.base,
        )

    def _plugins(self) -> None:
        node = self.root.values.get("plugins")
        for item in node.items if isinstance(node, Sequence) else ():
            name = item.plain()
            if isinstance(name, str):
                try:
                    plugin(name)
                except UnknownNameError as error:
                    self.problems.append(item.problem(str(error), path="plugins", hint=error.hint))
                else:
                    self.plugins.append(name)

    def _settings(self) -> Settings | None:
        plain = {
            key: node.plain() for key, node in self.root.values.items() if key not in {*_PLACES, "resources"}
        }
        for key in self.strange:
            del plain[key]
            hint = suggest(key, _KEYS) or f"known keys: {', '.join(_KEYS)}"
            self.problems.append(self.root.keys[key].problem(f"unknown key {key!r}", hint=hint))
        if isinstance(plain.get("lake"), str):
            plain["lake"] = _from(self.base, plain["lake"])
        settings, problems = validate(Settings, self.root, plain, at=self.root, path="", strange=self.strange)
        self.problems += problems
        return settings

    def _list(self, place: str, *, single: bool) -> list[_Found]:
        node = self.root.values.get(place)
        if node is None:
            if single and not closest(place, self.strange):
                message = f"the key {place!r} is missing"
                self.problems.append(self.root.problem(message, hint=_EXAMPLE[place]))
            return []
        if single and not isinstance(node, Sequence):
            found = self._step(node, place, place)
            return [found] if found else []
        if not isinstance(node, Sequence) or (single and not node.items):
            wants = "a step or a list of them" if single else "a list of steps"
            message = (
                f"must be {wants}, not {'an empty list' if isinstance(node, Sequence) else describe(node)}"
            )
            self.problems.append(node.problem(message, path=place, hint=_EXAMPLE[place]))
            return []
        each = [self._step(item, f"{place}.{number}", place) for number, item in enumerate(node.items, 1)]
        return [found for found in each if found]

    def _sink(self) -> Sink:
        node = self.root.values.get("sink")
        found = self._step(node, "sink", "sink") if node is not None else None
        return found.step if found and isinstance(found.step, Sink) else Sink()

    def _resources(self, steps: SequenceOf[Step]) -> dict[str, Resources]:
        """What each step asks of a cluster."""
        node = self.root.values.get("resources")
        if not isinstance(node, Mapping):
            if node is not None:
                hint = "write resources: {dedup.MinHash: {cpus: 1, memory: 2GiB}}"
                message = f"must be a mapping of steps, not {describe(node)}"
                self.problems.append(node.problem(message, path="resources", hint=hint))
            return {}
        known = () if self.problems else resource_names(steps, self.plugins)
        found: dict[str, Resources] = {}
        for name, settings in node.values.items():
            key, path = node.keys[name], f"resources.{name}"
            if known and name not in known:
                hint = suggest(name, known) or f"known names: {', '.join(known)}"
                self.problems.append(key.problem(f"there is no step {name!r}", path=path, hint=hint))
            elif not isinstance(settings, Mapping):
                message = f"must be a mapping such as {{cpus: 1, memory: 2GiB}}, not {describe(settings)}"
                self.problems.append(settings.problem(message, path=path))
            else:
                value, problems = validate(Resources, settings, settings.plain(), at=key, path=path)
                self.problems += problems
                if value is not None:
                    found[name] = value
        return found

    def _step(self, node: Node, path: str, place: str) -> _Found | None:
        """A step written ``key``, ``key:`` or ``{key: {settings}}``."""
        opened = self._open(node, path, place)
        if opened is None:
            return None
        key, settings = opened
        try:
            cls = Sink if key.text == SINK_KEY else resolve(key.text, self.plugins)
        except UnknownNameError as error:
            self.problems.append(key.problem(str(error), path=path, hint=error.hint))
            return None
        if misplaced := _misplaced(cls, place):
            self.problems.append(key.problem(f"{key.text} {misplaced}", path=path, hint=_EXAMPLE[place]))
            return None
        step, problems = validate(cls, settings, settings.plain(), at=key, path=f"{path}.{key.text}")
        self.problems += problems
        return _Found(step, key) if step is not None else None

    def _open(self, node: Node, path: str, place: str) -> tuple[Scalar, Mapping] | None:
        if isinstance(node, Scalar) and isinstance(node.value, str) and node.value:
            return node, Mapping(node.source, node.line, node.column, node.width)
        if not isinstance(node, Mapping) or len(node.values) != 1:
            what = f"a mapping with {len(node.values)} keys" if isinstance(node, Mapping) else describe(node)
            message = f"must be one name with its settings, not {what}"
            hint = (
                "indent the settings under the name"
                if isinstance(node, Mapping) and node.values
                else _EXAMPLE[place]
            )
            self.problems.append(node.problem(message, path=path, hint=hint))
            return None
        (key,) = node.keys.values()
        settings = node.values[key.text]
        if isinstance(settings, Scalar) and settings.value is None:
            settings = Mapping(key.source, key.line, key.column, key.width)
        if not isinstance(settings, Mapping):
            message = f"must be a mapping of settings, not {describe(settings)}"
            hint = f"see `gristmill ops {key.text}`"
            self.problems.append(settings.problem(message, path=f"{path}.{key.text}", hint=hint))
            return None
        return key, settings


def _misplaced(cls: type[Step], place: str) -> str | None:
    kind = "sink" if cls is Sink else kind_of(cls)
    wanted: dict[str, Any] = {"source": {"source"}, "steps": {"op", "barrier"}, "sink": {"sink"}}
    if kind in wanted[place]:
        return None
    article = {"source": "a source", "op": "a step", "barrier": "a step", "sink": "a sink"}[str(kind)]
    return f"is {article}: it cannot stand under {place}:"


def _from(base: Path, path: str) -> str:
    """A path that starts at the configuration's folder; URLs and absolute paths stay as they are."""
    if "://" in path or base == Path():
        return path
    return str(Path(base, os.path.expanduser(path)))  # noqa: PTH111  (Path.expanduser raises where no home is known)
