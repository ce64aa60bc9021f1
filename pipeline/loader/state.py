"""The position of a loader as plain values, and what must be equal for a stream to go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lake.errors import ConfigError
from pipeline.loader.share import Share

if TYPE_CHECKING:
    from pipeline.loader.loader import Loader

__all__ = ["load", "save"]

_FORMAT = 1
_STREAM = ("rows", "seed", "shuffle", "window", "spread")
_SHARING = ("batch_size", "world", "by", "last")


def save(loader: Loader, epoch: int, step: int) -> dict[str, Any]:
    """See :meth:`pipeline.loader.Loader.state_dict`."""
    spans = loader._spans if epoch == loader.epoch else ((0, loader.rows),)  # noqa: SLF001  (its own other half)
    return {
        "format": _FORMAT,
        "table": loader.table,
        "version": loader.version,
        **_stream(loader),
        "policy": _policy(loader),
        "epoch": epoch,
        "step": step,
        "spans": [list(span) for span in spans],
        **{name: getattr(loader.settings, name) for name in _SHARING},
    }


def load(
    loader: Loader, saved: Mapping[str, Any], *, strict: bool
) -> tuple[int, int, tuple[tuple[int, int], ...]]:
    """See :meth:`pipeline.loader.Loader.load_state_dict`: the epoch, the step and the spans to go on with."""
    if saved.get("format") != _FORMAT:
        raise ConfigError(
            f"a loader's state of format {saved.get('format')!r}", hint=f"this version reads {_FORMAT}"
        )
    if saved["table"] != loader.table:
        raise ConfigError(f"the state is of table {saved['table']!r}, the loader of {loader.table!r}")
    if saved["version"] != loader.version:
        if loader._asked is not None:  # noqa: SLF001
            raise ConfigError(
                f"the state is of version {saved['version']}, the loader was given version {loader.version}",
                hint="leave out version=: it is in the state",
            )
        loader.pin(saved["version"])
    now = {**_stream(loader), "policy": _policy(loader)}
    other = [f"{name} was {saved[name]!r}, is {now[name]!r}" for name in now if saved[name] != now[name]]
    if not strict:
        other = [each for each in other if not each.startswith("policy ")]
    if other:
        raise ConfigError(
            "the state is of another stream: it cannot go on here",
            why="; ".join(other),
            hint="make the loader with the settings of then (rows: filter=, and files that were not replaced)",
        )
    spans = tuple((int(a), int(z)) for a, z in saved["spans"])
    if all(saved[name] == getattr(loader.settings, name) for name in _SHARING):
        return saved["epoch"], saved["step"], spans
    before = Share(spans, saved["batch_size"], 0, saved["world"], saved["by"], saved["last"])
    left = before.left(saved["step"])
    return (saved["epoch"], 0, left) if left else (saved["epoch"] + 1, 0, ((0, loader.rows),))


def _stream(loader: Loader) -> dict[str, Any]:
    known = {"rows": loader._source.digest, "seed": loader.settings.seed}  # noqa: SLF001
    return {name: known.get(name, getattr(loader.settings, name, None)) for name in _STREAM}


def _policy(loader: Loader) -> str | None:
    policy: str | None = loader.settings.policy
    if policy is None or policy == "table":
        return policy
    fixed = loader._augmentation.fixed  # type: ignore[union-attr]  # noqa: SLF001
    return str(getattr(fixed, "digest", type(fixed).__name__))
