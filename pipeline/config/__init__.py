"""The configuration: from YAML, with the place of every mistake, to a frozen value and back.

``model`` is the value; ``reader`` builds it from a document (``strictyaml``, ``overrides``), asking
``catalog`` which names stand for steps, and ``complaints`` tells what is wrong, and where;
``jsonschema`` is for editors.
"""

from __future__ import annotations

from pipeline.config.model import Config as Config
from pipeline.config.model import InvalidConfigError as InvalidConfigError
from pipeline.config.model import Settings as Settings
from pipeline.config.model import Sink as Sink
from pipeline.config.model import dump as dump
from pipeline.config.model import load as load
from pipeline.config.model import loads as loads

__all__ = ["Config", "InvalidConfigError", "Settings", "Sink", "dump", "load", "loads"]
