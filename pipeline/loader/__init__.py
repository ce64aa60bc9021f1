"""The training loader: batches of a table at one version, the same ones whatever reads them.

See ``docs/loading.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lake.lake import Lake
from pipeline.loader.loader import Loader as Loader

__all__ = ["Loader", "load"]

_CONFIGURATIONS = {".yaml", ".yml"}


def load(
    source: Any,
    table: str | None = None,
    *,
    version: int | None = None,
    storage_options: Mapping[str, str] | None = None,
    **settings: Any,
) -> Loader:
    """A loader for a lake, or for what a configuration fills.

    Args:
        source: a lake (its folder, URL or a :class:`lake.Lake`), or a pipeline (its YAML file or a
            :class:`pipeline.Pipeline`).
        table: None: the pipeline's sink, or ``train``.
        version: see :class:`Loader`.
        storage_options: see :class:`lake.Lake`.
        settings: see :class:`Loader`.

    >>> import pipeline
    >>> loader = pipeline.load("lake", batch_size=128, policy="randaugment")  # doctest: +SKIP
    """
    if isinstance(source, (str, Path)) and Path(source).suffix.lower() in _CONFIGURATIONS:
        from pipeline.config import load as read

        source = read(Path(source))
    config = getattr(source, "config", source)
    sink = getattr(config, "sink", None)
    if sink is not None:
        table, source = table or sink.name, Lake(config.lake, storage_options)
    return Loader(source, table or "train", version=version, storage_options=storage_options, **settings)
