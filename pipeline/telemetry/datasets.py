"""What a stage reads and writes, named so that other tools mean the same by it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pipeline.telemetry.events import Dataset

if TYPE_CHECKING:
    from lake.lake import Change, Lake
    from pipeline.config import Config
    from pipeline.stages.ingest import Job

__all__ = ["Written", "files_of", "is_web", "outputs_of", "plain_uri", "table_of"]

_WILD = re.compile(r"[*?\[{]")
_SHOWN = frozenset({"_drops", "_policies"})
"""Tables of the lake's own that are a result; the rest is bookkeeping."""


class Written(NamedTuple):
    """A change, and the versions of the commit that carried it."""

    change: Change
    versions: Mapping[str, int]


def plain_uri(uri: str) -> str:
    """The address without user, password, query and fragment.

    >>> plain_uri("https://me:secret@host:9091/path?token=abc")
    'https://host:9091/path'
    >>> plain_uri("/data/lake")
    '/data/lake'
    """
    if "://" not in uri:
        return uri
    try:
        parts = urlsplit(uri)
    except ValueError:  # of an address that is none
        return uri.partition("://")[0] + "://"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_web(uri: str) -> bool:
    """Whether this is an address of HTTP with a host, and a port where it has one.

    >>> is_web("http://host:9091"), is_web("http://host:port"), is_web("http://[::1"), is_web("s3://bucket")
    (True, False, False, False)
    """
    try:
        parts = urlsplit(uri)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def files_of(config: Config, jobs: Sequence[Job]) -> tuple[Dataset, ...]:
    """The places of the sources that a run reads from: files, or the folder above the first wildcard.

    Rows are known after the run alone; bytes and files are told where a source has one place.
    """
    labels = dict.fromkeys(job.label for job in jobs)
    found: list[Dataset] = []
    for label in labels:
        mine = [job for job in jobs if job.label == label]
        paths = mine[0].source.paths
        places = [_place(path, Path(config.base)) for path in ([paths] if isinstance(paths, str) else paths)]
        pieces = [piece for job in mine for piece in job.split.pieces]
        if len(set(places)) == 1:
            files = len({piece.file.uri for piece in pieces})
            found.append(Dataset(places[0], bytes=sum(piece.size for piece in pieces), files=files))
        else:
            found += [Dataset(place) for place in dict.fromkeys(places)]
    return tuple({each.uri: each for each in found}.values())


def _place(path: str, base: Path) -> str:
    wild = _WILD.search(path)
    fixed = path if wild is None else path[: wild.start()].rpartition("/")[0]
    return plain_uri(fixed) if "://" in fixed else str((base / fixed).absolute())


def table_of(lake: Lake, name: str) -> Dataset:
    """A table of the lake as it is now."""
    table = lake.table(name)
    current = table.snapshot()
    parts = current.parts()
    return Dataset(
        plain_uri(table.uri),
        name,
        current.version,
        sum(part.rows for part in parts),
        sum(part.bytes for part in parts),
        len(parts),
        current.schema,
    )


def outputs_of(lake: Lake, written: Iterable[Written]) -> tuple[Dataset, ...]:
    """The tables that a commit changed, without those that only the lake itself reads."""
    return tuple(
        Dataset(
            plain_uri(lake.table(change.table).uri),
            change.table,
            versions[change.table],
            sum(part.rows for part in change.add),
            sum(part.bytes for part in change.add),
            len(change.add),
            change.schema,
        )
        for change, versions in written
        if change.table in _SHOWN or not change.table.startswith("_")
    )
