"""WebDataset: tar archives whose members are grouped into samples by name up to the first dot.

Nothing is ever unpacked to disk. ``_source.row`` is the number of a sample's first member.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from lake.formats.jsonl import parse
from lake.formats.lines import BrokenStreamError, stream
from lake.formats.pictures import check
from lake.formats.rows import BadRowError, Reading, Rows, canonical, label_text, value_of
from lake.formats.splits import Piece
from lake.formats.whole import as_text
from lake.op import Outcome

__all__ = ["read"]

_IMAGES = frozenset({"png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "gif", "dcm"})
_KNOWN = _IMAGES | {"cls", "txt", "json"}


@dataclass
class _Sample:
    key: str
    row: int
    parts: dict[str, bytes] = field(default_factory=dict)  # extension -> contents


def read(piece: Piece, address: str, how: Reading) -> Iterator[Outcome]:
    """The samples of an archive, in order."""
    uri, rows, number = piece.file.uri, Rows(how), 0
    sample: _Sample | None = None
    with stream(address, piece.file.compression) as source:
        try:
            raw = _Raw(source)
            with tarfile.open(  # type: ignore[call-overload]  # typeshed wants more methods than are called
                fileobj=raw, mode="r|", bufsize=1 << 20, tarinfo=_Member
            ) as archive:
                for number, member in enumerate(archive, 1):
                    archive.members = []  # it would remember every member
                    part = _part(member, rows, uri, number, how)
                    if part is None:
                        continue
                    key, kind = part
                    blob = archive.extractfile(member).read()
                    if sample is not None and (sample.key != key or kind in sample.parts):
                        _finish(sample, rows, uri)
                        sample = None
                    sample = sample or _Sample(key, number)
                    sample.parts[kind] = blob
                    if rows.full:
                        yield rows.finish()
        except (tarfile.TarError, EOFError, OSError, ValueError, BrokenStreamError) as error:
            if isinstance(error, (PermissionError, FileNotFoundError)):
                raise
            if raw.empty and not isinstance(error, BrokenStreamError):
                return
            # The sample that the break may have cut is not taken as whole.
            row = sample.row if sample is not None else number + 1
            reason = str(error.args[0]) if isinstance(error, BrokenStreamError) else "broken or cut off"
            rows.drop(uri, row, "truncated-file", f"member {number + 1}: {reason}")
            sample = None
    if sample is not None:
        _finish(sample, rows, uri)
    yield rows.finish()


class _Raw:
    """What tarfile asks of a stream."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self.empty = True

    def read(self, size: int, /) -> bytes:
        data = self._read(size)
        self.empty = self.empty and not data
        return data


class _Member(tarfile.TarInfo):
    """A header that is broken is an error; tarfile would take it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile, /) -> Self:
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError):  # type: ignore[attr-defined]  # typeshed lacks them
            raise BrokenStreamError("a member's header is broken or cut off") from None


def _part(member: tarfile.TarInfo, rows: Rows, uri: str, number: int, how: Reading) -> tuple[str, str] | None:
    """(key, extension) of a member that belongs to a sample; what does not is dropped here."""
    name = member.name
    if member.isdir():
        return None
    if not member.isfile() or name.startswith("/") or ".." in name.split("/") or "\\" in name:
        rows.drop(
            uri, number, "unsafe-name", f"member {number}: a link, a device, or a path out of the archive"
        )
        return None
    folder, base = posixpath.split(name)
    stem, _, kind = base.partition(".")
    kind = kind.lower()
    if kind not in _KNOWN:
        rows.drop(uri, number, "unsupported-member", f"member {number}: not an image, .cls, .txt or .json")
        return None
    if member.size > how.max_row_bytes:
        rows.drop(uri, number, "row-too-large", f"member {number}: over {how.max_row_bytes} bytes")
        return None
    return posixpath.join(folder, stem), kind


def _finish(sample: _Sample, rows: Rows, uri: str) -> None:
    try:
        values = _record(sample, rows.how)
    except BadRowError as bad:
        rows.drop(uri, sample.row, bad.rule, f"member {sample.row}, {bad.detail}")
    else:
        rows.add(uri, sample.row, **values)


def _record(sample: _Sample, how: Reading) -> dict[str, Any]:
    parts = sample.parts
    values: dict[str, Any] = parse(parts["json"].strip()) if "json" in parts else {}
    text = as_text(parts["txt"]) if "txt" in parts else values.get(how.text or "")
    if text is not None and not isinstance(text, str):
        raise BadRowError("wrong-type", f"column {how.text!r}: expected a string")
    images = sorted(_IMAGES & parts.keys())
    if len(images) > 1:
        raise BadRowError("ambiguous-sample", f"{len(images)} images of one key")
    image = parts[images[0]] if images else None
    if image is None and text is None:
        raise BadRowError("missing-payload", "neither an image nor a text")
    if image is not None:
        check(image, how)
    label = None
    if how.label is not None:
        label = (
            as_text(parts["cls"]).strip() if "cls" in parts else label_text(values.get(how.label), how.label)
        )
    typed = tuple(value_of(values.get(name), kind, name) for name, kind in how.columns)
    try:
        meta = canonical({name: item for name, item in values.items() if name not in how.taken})
    except ValueError:
        raise BadRowError("unreadable-json", "a number that cannot be held") from None
    return {"text": text, "image": image, "label": label, "meta": meta, "typed": typed}
