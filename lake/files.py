"""Raw files to batches of records: find what is new, cut it into splits, read each one.

Formats: JSON lines, CSV and TSV, Parquet, plain text (a record per file), image files (the folder
is the label), WebDataset tar archives, DICOM; the first, the second, text and tar also as ``.gz``
and ``.zst``. From paths, globs (``**``), folders, and URLs of object stores (``s3://``, ``gs://``,
``az://``; the usual settings and credentials of each are honoured).

Every line, row, member or file becomes a record or a row of drops; a blank line is neither, nor is a
file whose name begins with a dot, one of no known format whose name begins with an underscore, or one of
another format than the one that was set.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, Self

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from lake.errors import InputError, StorageError
from lake.formats.places import Found, find, is_url, locate, open_file
from lake.formats.rows import Reading, Rows, dropped
from lake.formats.splits import UNKNOWN, UNREADABLE, File, Piece, Split, Taken, group, new_pieces
from lake.op import Outcome, Step
from lake.schema import RECORD
from lake.storage import secret

__all__ = ["Files", "Split", "Taken"]

Format = Literal["auto", "jsonl", "csv", "parquet", "text", "images", "webdataset", "dicom"]
OnChange = Literal["keep", "follow"]
Kind = Literal["int64", "float64", "string", "bool", "timestamp", "json", "binary"]

READER_VERSION = 1
"""Raised when the same file would give other rows than before."""

_EXTENSIONS = {
    "jsonl": ("jsonl", "ndjson", "json-lines", "jsonlines"),
    "csv": ("csv", "tsv"),
    "parquet": ("parquet", "pq"),
    "text": ("txt", "md", "rst"),
    "images": ("png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "gif"),
    "webdataset": ("tar",),
    "dicom": ("dcm", "dicom"),
}
_FORMAT_OF = {name: kind for kind, names in _EXTENSIONS.items() for name in names}
_COMPRESSED = frozenset({"jsonl", "csv", "text", "webdataset"})
_FOLDER_LABELS = frozenset({"text", "images", "dicom"})
_BATCH = 16 << 20
_JOIN = 3 << 19  # bytes: smaller outcomes are joined, larger ones passed on as they are


class Files(Step):
    r"""A source of raw files.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.jsonl").write_text('{"body": "one", "stars": 5}\n{"body": 2}\n')
    >>> files = Files(paths="*.jsonl", text="body", label="stars")
    >>> [split] = files.discover({}, base=folder)
    >>> [outcome] = files.read(split)
    >>> outcome.table.select(["text", "label"]).to_pylist()
    [{'text': 'one', 'label': '5'}]
    >>> outcome.drops.select(["_source", "rule"]).to_pylist()
    [{'_source': {'uri': 'a.jsonl', 'row': 2}, 'rule': 'wrong-type'}]

    Raises:
        InputError: from ``discover``, where nothing matches or a folder cannot be listed.
    """

    paths: str | list[str] = Field(
        description="Paths, globs, folders, or URLs (s3://, gs://, az://, abfss://)."
    )
    format: Format = Field("auto", description="The format of all of them; auto goes by the extension.")
    text: str | None = Field("text", description="The column that holds the text; null for none.")
    image: str | None = Field(None, description="The column that holds an image file (Parquet: bytes).")
    label: str | None = Field("label", description="The column (or, for files, the folder) of the label.")
    columns: dict[str, Kind] = Field(default_factory=dict, description="Columns to keep with a type.")
    split_bytes: int = Field(64 << 20, gt=0, description="About as many bytes go into a unit of work.")
    max_row_bytes: int = Field(256 << 20, gt=0, le=1 << 30, description="Larger rows are dropped.")
    verify_images: bool = Field(True, description="Decode every image once, and drop those that fail.")  # noqa: FBT003 (pydantic's default)
    max_pixels: int = Field(100_000_000, gt=0, description="Larger images are dropped undecoded.")
    on_change: OnChange = Field(
        "keep", description="Rows that are in no file any more: keep them, or follow the files and let them go."
    )

    @field_validator("paths")
    @classmethod
    def _some_path(cls, value: str | list[str]) -> str | list[str]:
        if not value or not all(value):
            raise ValueError("give at least one path")
        for path in [value] if isinstance(value, str) else value:
            if wrong := secret(path):
                raise ValueError(wrong)
        return value

    @field_validator("columns")
    @classmethod
    def _free_names(cls, value: dict[str, Kind]) -> dict[str, Kind]:
        for name in value:
            if name in RECORD.names or name.startswith("_") or not name:
                raise ValueError(f"{name!r} is reserved: a column of every record, or a name with a leading _")
        return value

    @model_validator(mode="after")
    def _some_payload(self) -> Self:
        if self.text is None and self.image is None and self.format in {"jsonl", "csv", "parquet"}:
            raise ValueError("text and image are both null: there would be nothing to read")
        return self

    def schema(self) -> pa.Schema:  # type: ignore[override]  # hides a deprecated name of pydantic's
        """The schema of the record batches: ``lake.schema.RECORD`` and the typed columns."""
        return self._reading().schema

    @property
    def reader(self) -> str:
        """32 hex digits over the settings that rows depend on; another value reads files again."""
        settings = self.model_dump(mode="json", exclude={"paths", "split_bytes", "on_change"})
        named = json.dumps({**settings, "version": READER_VERSION}, sort_keys=True)
        return hashlib.blake2b(named.encode(), digest_size=16, person=b"gristmill-reader").hexdigest()

    def discover(self, taken: Mapping[str, Taken], *, base: Path | None = None) -> list[Split]:
        """The splits of what is new since ``taken`` (by uri), in order of (uri, start).

        A file of the same size and time is not new. A line file that has only grown (the first and
        last 64 KiB of what was consumed are as they were) gives the rest; any other change, and
        other settings, the whole file. Files below ``base`` (the folder of the configuration;
        default: the working folder) are named relative to it, so that a lake can move with them.

        Raises:
            InputError: a pattern matches nothing, or something cannot be listed.
        """
        return self.look(taken, base=base)[0]

    def look(
        self, taken: Mapping[str, Taken], *, base: Path | None = None
    ) -> tuple[list[Split], frozenset[str]]:
        """What :meth:`discover` gives, and the uris of all files that are there."""
        folder = Path(os.path.abspath(base or Path.cwd()))  # noqa: PTH100 (links stay as they are given)
        patterns = [self.paths] if isinstance(self.paths, str) else self.paths
        pieces: dict[str, list[Piece]] = {}
        for pattern in patterns:
            known = 0
            for found in find(pattern, folder):
                kind, compression = self._format(found, folder)
                if not kind:
                    continue
                known += kind != UNKNOWN
                if found.path in pieces:
                    continue
                file = File(found.path, kind, compression, 0, 0, None, 0, 0, "")
                label = found.folder if kind in _FOLDER_LABELS and self.label is not None else None
                pieces[found.path] = new_pieces(
                    found, kind, compression, taken.get(file.uri), base=str(folder), reader=self.reader,
                    split_bytes=self.split_bytes, label=label,
                )  # fmt: skip
                if kind == "dicom" and pieces[found.path]:
                    from lake.formats import dicom

                    dicom.require()
            if not known:
                raise InputError(
                    "no file of a known format", where=pattern, why=f"looked in {folder}", hint="set format:"
                )
        new = [piece for parts in pieces.values() for piece in parts]
        there = frozenset(path.encode("utf-8", "backslashreplace").decode("utf-8") for path in pieces)
        return group(new, str(folder), self.reader, self.split_bytes), there

    def _format(self, found: Found, folder: Path) -> tuple[str, str]:
        """(format, compression); "" where the file is none of ours."""
        stem, _, extension = found.path.rpartition("/")[2].lower().rpartition(".")
        compression = ""
        if extension in {"gz", "zst"} and stem:
            compression, extension = extension, stem.rpartition(".")[2]
        kind = _FORMAT_OF.get(extension, "")
        if self.format != "auto" and not (self.format == "images" and kind == "dicom"):
            kind = self.format if self._wanted(found, kind) else ""
        elif not kind and not compression and found.size > 0 and _has_dicom_magic(found, folder):
            kind = "dicom"
        if not kind and found.named:
            raise InputError("cannot tell the format", where=found.path, hint="rename the file, or set format:")
        if compression and kind and kind not in _COMPRESSED:
            raise InputError(f"a compressed file of format {kind}", where=found.path, hint="unpack it first")
        if not kind and self.format == "auto" and not found.path.rpartition("/")[2].startswith("_"):
            kind = UNKNOWN  # a row of drops: whoever looks for it must find it
        return kind, compression

    def _wanted(self, found: Found, kind: str) -> bool:
        """With a format given, a folder's or glob's files of other known formats are left out."""
        return found.named or not kind or kind == self.format

    def read(self, split: Split) -> Iterator[Outcome]:
        """The records and drops of a split, in batches of up to about 16 MB, always in the same order.

        Raises:
            StorageError: the storage fails; a file that is gone or may not be read is a drop instead.
        """
        how = self._reading()
        return _joined(self._pieces(split, how))

    def _pieces(self, split: Split, how: Reading) -> Iterator[Outcome]:
        rows = Rows(how)
        for piece in split.pieces:
            address = locate(piece.file.path, split.base)
            try:
                if piece.file.fingerprint == UNREADABLE:
                    open_file(address).close()  # says why, if it still cannot be
                    yield _refused(piece, how, "unreadable-file", "not when the run was planned")
                elif piece.file.format == UNKNOWN:
                    yield _refused(piece, how, UNKNOWN, None)
                elif piece.file.format in {"text", "images", "dicom"}:
                    _take(piece, address, how, rows)
                    if rows.full:
                        yield rows.finish()
                else:
                    yield from _outcomes(piece, address, how)
            except (PermissionError, FileNotFoundError) as error:
                yield _refused(piece, how, "unreadable-file", error.strerror or str(error))
            except OSError as error:
                raise StorageError(
                    "reading a source failed", where=piece.file.uri, why=str(error), hint="run it again"
                ) from error
        if rows:
            yield rows.finish()

    def taken(self, splits: Iterable[Split]) -> list[Taken]:
        """The manifest rows for splits that are committed together, one a file, in order of uri.

        All splits of one file must be among them.
        """
        found: dict[str, Taken] = {}
        for split in splits:
            for piece in split.pieces:
                file = piece.file
                found[file.uri] = Taken(
                    file.uri, file.size, file.modified, file.consumed, file.rows, file.fingerprint, split.reader
                )
        return [found[uri] for uri in sorted(found)]

    def _reading(self) -> Reading:
        return Reading(
            text=self.text, image=self.image, label=self.label, columns=tuple(self.columns.items()),
            max_row_bytes=self.max_row_bytes, verify_images=self.verify_images, max_pixels=self.max_pixels,
            batch_bytes=_BATCH,
        )  # fmt: skip


def _refused(piece: Piece, how: Reading, rule: str, why: str | None) -> Outcome:
    return Outcome(how.schema.empty_table(), dropped([(piece.file.uri, None, rule, why)]))


def _has_dicom_magic(found: Found, folder: Path) -> bool:
    if is_url(found.path) and "." in found.path.rpartition("/")[2]:
        return False
    try:
        source = open_file(locate(found.path, str(folder)))
    except OSError:
        return False
    try:
        source.seek(128)
        return source.read(4) == b"DICM"
    finally:
        source.close()


def _take(piece: Piece, address: str, how: Reading, rows: Rows) -> None:
    if piece.file.format == "text":
        from lake.formats import whole

        whole.take(piece, address, how, rows)
    else:
        from lake.formats import pictures

        pictures.take(piece, address, how, rows)


def _outcomes(piece: Piece, address: str, how: Reading) -> Iterator[Outcome]:
    from lake.formats import delimited, jsonl, parquet, webdataset

    readers = {
        "jsonl": jsonl.read,
        "csv": delimited.read,
        "parquet": parquet.read,
        "webdataset": webdataset.read,
    }
    return readers[piece.file.format](piece, address, how)


def _joined(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """Small outcomes as one, so that many small files do not make many small batches."""
    held: list[Outcome] = []
    size = 0
    for outcome in outcomes:
        held.append(outcome)
        size += outcome.table.nbytes + 128 * outcome.drops.num_rows
        if size >= _JOIN:
            yield _one(held)
            held, size = [], 0
    if held:
        joined = _one(held)
        if joined.table.num_rows or joined.drops.num_rows:
            yield joined


def _one(held: list[Outcome]) -> Outcome:
    if len(held) == 1:
        return held[0]
    tables, drops = [o.table for o in held], [o.drops for o in held]
    return Outcome(pa.concat_tables(tables), pa.concat_tables(drops))
