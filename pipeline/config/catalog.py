"""Which names a configuration may use, and what stands behind them.

A key such as ``dedup.MinHash`` is the import path of a class. It resolves only if its module is one
of ours (or one that the configuration lists under ``plugins:``), the name stands in that module's
``__all__``, and what it names is a step (:class:`lake.op.Op`, :class:`lake.op.Barrier`) or a source
(:class:`lake.Files`). Nothing else is reachable: there is no walk through attributes.

>>> resolve("os.system")
Traceback (most recent call last):
    ...
pipeline.config.catalog.UnknownNameError: 'os.system' is not a step
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from lake.op import Barrier, Op, Step
from pipeline.config.strictyaml import closest

__all__ = ["SINK_KEY", "Entry", "UnknownNameError", "entry", "key_of", "plugin", "resolve", "steps"]

MODULES = (
    "lake",
    "dedup",
    "augment",
    "augment.presets",
    "augment.search",
    "pipeline",
    "pipeline.filters",
)
"""The public modules: the four packages, and those of their sub-modules that hold steps."""

SINK_KEY = "lake.Table"
"""The sink is written under the name of the table class, but it is a plain value: see config.Sink."""

_NAME = re.compile(r"[A-Z]\w*\Z", re.ASCII)
_MODULE = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*\Z", re.ASCII)

# What a module can raise while it is imported: the user must hear which plugin is to blame.
IMPORT_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


class UnknownNameError(LookupError):
    """A key that names no step; ``hint`` says what to write instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Entry:
    """A step as the catalogue shows it."""

    key: str
    kind: str
    """``source``, ``op``, ``barrier`` or ``sink``."""
    cls: type[Step]

    @property
    def summary(self) -> str:
        """The first sentence of the class's docstring."""
        text = inspect.getdoc(self.cls) or ""
        return " ".join(text.split("\n\n", 1)[0].split())

    @property
    def augments(self) -> bool:
        """Does it make training copies?"""
        return self.cls.augments


def resolve(key: str, plugins: Iterable[str] = ()) -> type[Step]:
    """The class behind a key.

    Raises:
        UnknownNameError: nothing may be reached under this key.
    """
    plugins = tuple(plugins)
    module_name, _, name = key.rpartition(".")
    if module_name not in {*MODULES, *plugins} or not _NAME.match(name):
        raise UnknownNameError(f"{key!r} is not a step", _hint(key, plugins))
    module = _module(module_name)
    if module is None or name not in _public(module):
        raise UnknownNameError(f"{key!r} is not a step", _hint(key, plugins))
    found = _member(module, name)
    if inspect.isclass(found) and issubclass(found, Step) and kind_of(found):
        return found
    raise UnknownNameError(f"{key!r} is not a step but {_what(found)}", _hint(key, plugins))


def entry(key: str, plugins: Iterable[str] = ()) -> Entry:
    """The entry of one key; the sink's too.

    Raises:
        UnknownNameError: no such key.
    """
    if key == SINK_KEY:
        from pipeline.config.model import Sink

        return Entry(SINK_KEY, "sink", Sink)
    cls = resolve(key, plugins)
    return Entry(key, kind_of(cls) or "", cls)


def steps(plugins: Iterable[str] = ()) -> list[Entry]:
    """All that a configuration can name: sources first, then steps by name, then the sink."""
    order = {"source": 0, "op": 1, "barrier": 1, "sink": 2}
    found = [entry(key, plugins) for key in _keys(tuple(plugins))]
    return sorted([*found, entry(SINK_KEY)], key=lambda each: (order[each.kind], each.key))


def key_of(cls: type[Step], plugins: Iterable[str] = ()) -> str:
    """The key under which a class is found: the inverse of :func:`resolve`.

    A class that no public module exports goes by its module and name: a label, though not a key that loads.
    """
    home, name = cls.__module__, cls.__name__
    folders = home.split(".")
    above = [".".join(folders[:depth]) for depth in range(1, len(folders) + 1)]
    # The packages around it come first: that spares the import of all the others.
    for module_name in dict.fromkeys([*above, *plugins, *MODULES]):
        if module_name not in MODULES and module_name not in sys.modules:
            continue
        module = _module(module_name)
        if module is not None and name in _public(module) and _exports(module, cls):
            return f"{module_name}.{name}"
    return f"{home}.{cls.__qualname__}"


def _exports(module: ModuleType, cls: type[Step]) -> bool:
    try:
        return _member(module, cls.__name__) is cls
    except UnknownNameError:
        return False


def kind_of(cls: type) -> str | None:
    """``op``, ``barrier`` or ``source``; none for anything else, and for what is abstract."""
    if not issubclass(cls, Step) or inspect.isabstract(cls) or cls in {Step, Op, Barrier}:
        return None
    if issubclass(cls, Op):
        return "op"
    if issubclass(cls, Barrier):
        return "barrier"
    from lake.files import Files

    return "source" if issubclass(cls, Files) else None


def plugin(name: str) -> None:
    """Import a plugin module, or say why it cannot serve as one.

    Raises:
        UnknownNameError: it is missing, it fails, or it exports nothing.
    """
    if not _MODULE.match(name):
        raise UnknownNameError(f"{name!r} is not a module name", "write it as in an import: my_steps")
    try:
        module = import_module(name)
    except IMPORT_FAILURES as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == name.split(".", 1)[0]
        if missing:
            hint = "install it, or put its folder on PYTHONPATH"
            raise UnknownNameError(f"there is no module {name!r}", hint) from error
        message = f"the plugin {name!r} fails when it is imported: {type(error).__name__}: {error}"
        raise UnknownNameError(message, f"try: python -c 'import {name}'") from error
    if not any(_is_step(module, each) for each in _public(module)) and not _has_ops(module):
        hint = (
            "list your steps, subclasses of lake.op.Op or Barrier, in its __all__, or decorate with augment.op"
        )
        raise UnknownNameError(f"the plugin {name!r} exports no step and has no op for policies", hint)


def _has_ops(module: ModuleType) -> bool:
    """Whether functions of it are ops for policies."""
    from augment.custom import CustomOp

    return any(isinstance(value, CustomOp) for value in vars(module).values())


def _module(name: str) -> ModuleType | None:
    """The module, or none where it is not part of this installation."""
    if name not in sys.modules and find_spec(name) is None:
        return None
    return import_module(name)


def _public(module: ModuleType) -> tuple[str, ...]:
    return tuple(vars(module).get("__all__", ()))


def _member(module: ModuleType, name: str) -> object:
    try:
        return getattr(module, name)
    except (AttributeError, ImportError) as error:
        raise UnknownNameError(
            f"{module.__name__}.{name} cannot be loaded: {error}", "try: gristmill doctor"
        ) from error


def _is_step(module: ModuleType, name: str) -> bool:
    if not _NAME.match(name):
        return False
    try:
        found = _member(module, name)
    except UnknownNameError:  # it needs an extra that is not installed: then it is not on offer
        return False
    return inspect.isclass(found) and kind_of(found) is not None


@lru_cache(maxsize=8)
def _keys(plugins: tuple[str, ...]) -> tuple[str, ...]:
    """All keys. The lake's own classes other than Files are left alone: they would load Delta."""
    return tuple(_walk(plugins))


def _walk(plugins: tuple[str, ...]) -> Iterator[str]:
    seen: set[object] = set()
    for module_name in (*MODULES, *plugins):
        module = _module(module_name)
        if module is None or module_name == "pipeline":  # which exports no steps of its own
            continue
        for name in _public(module):
            if (module_name == "lake" and name != "Files") or not _is_step(module, name):
                continue
            cls = _member(module, name)
            if cls not in seen:  # a class that two modules export has one name here
                seen.add(cls)
                yield f"{module_name}.{name}"


def _hint(key: str, plugins: tuple[str, ...]) -> str:
    known = (*_keys(plugins), SINK_KEY)
    short = {each.rpartition(".")[2]: each for each in known}
    same = closest(key.rpartition(".")[2], short)
    close = closest(key, known) or (short[same] if same else None)
    if same and same.lower() == key.rpartition(".")[2].lower():
        close = short[same]  # the right name under the wrong module beats a similar spelling
    return f"did you mean {close!r}?" if close else "see `gristmill ops` for the steps there are"


def _what(found: object) -> str:
    if inspect.isclass(found):
        return "another class"
    return "a function" if callable(found) else "a value"
