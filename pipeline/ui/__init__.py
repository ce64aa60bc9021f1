"""The web page of a lake: ``gristmill ui``.

From the inside out: :mod:`pipeline.ui.data` reads the lake into plain values; :mod:`pipeline.ui.app` makes
pages and JSON of them, a request in, a response out; :mod:`pipeline.ui.guard` decides who may see them;
:mod:`pipeline.ui.server` speaks HTTP.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.ui.app import App as App
    from pipeline.ui.guard import Guard as Guard
    from pipeline.ui.server import Server as Server
    from pipeline.ui.site import Site as Site

_HOME = {
    "App": "pipeline.ui.app",
    "Guard": "pipeline.ui.guard",
    "Server": "pipeline.ui.server",
    "Site": "pipeline.ui.site",
}

__all__ = ["App", "Guard", "Server", "Site"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    msg = f"module 'pipeline.ui' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
