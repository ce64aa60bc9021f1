"""From rows to a batch: decode, augment, finish on threads, and stack.

A batch is cut into small chunks for the threads. That changes nothing: what happens to an image depends on its
id, the seed and the epoch alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from augment.annotations import BadAnnotationError
from lake.errors import InputError
from lake.images import BadImageError
from pipeline.loader.beside import Beside, Columns
from pipeline.loader.decode import Decoder
from pipeline.loader.feed import Piece
from pipeline.loader.finish import Finish
from pipeline.loader.source import gather

__all__ = ["Batch", "Maker", "Pending", "Skipped"]

Batch = dict[str, Any]
Pixels = npt.NDArray[Any]
Bad = BadImageError | BadAnnotationError
BAD = (BadImageError, BadAnnotationError)

_CHUNK = 16  # images of a task: enough to pay for the call, few enough for all threads to have some
_REMEMBERED = 1000  # ids of skipped rows


@dataclass
class Skipped:
    """Rows that were left out because their image cannot be read."""

    rules: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many, with repeats over epochs."""
        return sum(self.rules.values())

    def add(self, ids: Sequence[str], rules: Sequence[str]) -> None:
        """Count some more; the first thousand ids are remembered."""
        self.rules.update(rules)
        self.ids += ids[: max(0, _REMEMBERED - len(self.ids))]


@dataclass(frozen=True)
class Maker:
    """Makes batches of one epoch.

    Attributes:
        decode: of images.
        finish: after it.
        augment: images, their ids and pins to images; None: they stay. See :mod:`pipeline.loader.late`.
        mix: the same where images are mixed with partners.
        texts: the same for texts.
        beside: columns that move with the images; None where there are none.
        move: images, their ids, pins and what belongs to them to the same; None: they stay.
        first_size: size before augmentation.
        classes: label to number.
        on_error: what to do about a bad image.
        where: the table, for errors.
    """

    decode: Decoder
    finish: Finish
    augment: Callable[[list[Pixels], Sequence[str], Sequence[str | None]], list[Pixels]] | None
    mix: Callable[..., tuple[list[Pixels], npt.NDArray[np.float64]]] | None
    texts: Callable[[list[str], Sequence[str], Sequence[str | None]], list[str]] | None
    beside: Columns | None
    move: Callable[..., tuple[list[Pixels], list[Beside]]] | None
    first_size: bool
    classes: Mapping[str, int] | None
    on_error: Literal["raise", "skip"]
    where: str

    def start(
        self, pieces: Sequence[Piece], pool: ThreadPoolExecutor, repeated: npt.NDArray[np.bool_] | None = None
    ) -> Pending:
        """Begin to make a batch; ``repeated`` says which rows are there to fill it up."""
        names = pieces[0].table.column_names if pieces else []
        columns = {name: _column(pieces, name) for name in names if name != "image"}
        if repeated is not None:
            columns["_repeated"] = pa.array(repeated)
        n = sum(len(piece.rows) for piece in pieces)
        ids = columns["_id"].to_pylist() if "_id" in columns else [str(i) for i in range(n)]
        pins = columns.pop("_policy").to_pylist() if "_policy" in columns else [None] * n
        beside = None
        if self.beside is not None:
            beside = pa.table({name: columns.pop(name) for name in self.beside.names}).to_pylist()
        chunks: list[Future[_Chunk]] = []
        if "image" in names:
            blobs = [(piece.table.column("image"), row) for piece in pieces for row in piece.rows.tolist()]
            for at in range(0, n, _CHUNK):
                cut = slice(at, at + _CHUNK)
                said = None if beside is None else beside[cut]
                chunks.append(pool.submit(self._images, blobs[cut], ids[cut], pins[cut], said))
        texts = None
        if self.texts is not None and "text" in columns:
            texts = pool.submit(self._texts, columns["text"].to_pylist(), ids, pins)
        return Pending(self, columns, ids, chunks if "image" in names else None, texts)

    def _images(
        self,
        blobs: Sequence[tuple[pa.ChunkedArray, int]],
        ids: Sequence[str],
        pins: Sequence[str | None],
        said: Sequence[Mapping[str, Any]] | None,
    ) -> _Chunk:
        """The finished images of a chunk; in place of one its error, or None where the row has none."""
        values = [column[row] for column, row in blobs]
        there = [i for i, value in enumerate(values) if value.is_valid]
        found = self.decode.many([values[i].as_buffer().to_pybytes() for i in there])
        result: list[Pixels | Bad | None] = [None] * len(blobs)
        beside: list[Beside | None] = [None] * len(blobs)
        for i, image in zip(there, found, strict=True):
            result[i], beside[i] = self._with(image, None if said is None else said[i])
        good = [i for i in there if not isinstance(result[i], BAD)]
        images: list[Any] = [result[i] for i in good]
        along: list[Any] = [beside[i] for i in good]
        if self.first_size:
            images, along = self._fitted(images, along)
        partner, shares = np.arange(len(blobs)), np.zeros(len(blobs))
        named = [ids[i] for i in good], [pins[i] for i in good]
        if self.mix is not None and good:
            # Chunks begin at even positions of the epoch: the neighbour is in the same one, or there is none.
            partner[good] = [i ^ 1 if i ^ 1 in good else i for i in good]
            images, shares[good] = self.mix(images, *named, np.searchsorted(good, partner[good]))
        elif self.beside is not None and self.move is not None and good:
            images, along = self.move(images, *named, (self.beside, along))
        elif self.augment is not None and good:
            images = self.augment(images, *named)
        images, along = self._fitted(images, along)
        sizes: list[tuple[int, int] | None] = [None] * len(blobs)
        for i, image, each in zip(good, images, along, strict=True):
            result[i], beside[i], sizes[i] = self.finish.numbers(image), each, image.shape[:2]
        return _Chunk(
            result, partner, shares, {} if self.beside is None else self.beside.columns(beside, sizes)
        )

    def _with(
        self, image: Pixels | BadImageError, said: Mapping[str, Any] | None
    ) -> tuple[Pixels | Bad, Beside | None]:
        """An image and what belongs to it; its error where one of the two cannot be used."""
        if self.beside is None or said is None or isinstance(image, BadImageError):
            return image, None
        try:
            return image, self.beside.read(image.shape, said)
        except BadAnnotationError as error:
            return error, None

    def _fitted(self, images: list[Pixels], along: list[Any]) -> tuple[list[Pixels], list[Any]]:
        """All in the channels and the size that were asked for."""
        finish, beside = self.finish, self.beside
        if beside is not None:
            crops = [finish.crop(*image.shape[:2]) for image in images]
            along = [beside.fitted(each, crop, finish.size) for each, crop in zip(along, crops, strict=True)]
        return [finish.shape(image) for image in images], along

    def _texts(
        self, texts: list[str | None], ids: Sequence[str], pins: Sequence[str | None]
    ) -> list[str | None]:
        there = [i for i, text in enumerate(texts) if text is not None]
        if there and self.texts is not None:
            changed = self.texts(
                [str(texts[i]) for i in there], [ids[i] for i in there], [pins[i] for i in there]
            )
            for i, text in zip(there, changed, strict=True):
                texts[i] = text
        return texts


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Some images of a batch: what was mixed into them (``partner``, ``shares``), and what is beside them."""

    images: list[Pixels | Bad | None]
    partner: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float64]
    beside: Mapping[str, list[Any]]


@dataclass(frozen=True)
class Pending:
    """A batch that threads are at work on."""

    maker: Maker
    columns: Mapping[str, pa.Array]
    ids: Sequence[str]
    chunks: Sequence[Future[_Chunk]] | None
    texts: Future[list[str | None]] | None

    def result(self, skipped: Skipped) -> Batch:
        """The batch.

        Raises:
            InputError: an image cannot be read, and ``on_error`` is ``"raise"``.
        """
        batch = {name: _array(column) for name, column in self.columns.items()}
        if self.texts is not None:
            batch["text"] = _objects(self.texts.result())
        if self.maker.classes is not None and "label" in batch:
            batch["label"] = self._numbered(batch["label"])
        if self.chunks is None:
            return batch
        chunks = [chunk.result() for chunk in self.chunks]
        images = [image for chunk in chunks for image in chunk.images]
        if self.maker.mix is not None:
            batch |= self._mixed(chunks, batch)
        for name in chunks[0].beside if chunks else ():
            batch[name] = _objects([each for chunk in chunks for each in chunk.beside[name]])
        bad = [i for i, image in enumerate(images) if isinstance(image, BAD)]
        if bad and self.maker.on_error == "raise":
            raise _unreadable(self.maker.where, self.ids[bad[0]], images[bad[0]])
        if self.maker.on_error == "skip":
            gone, rules = [self.ids[i] for i in bad], [images[i].rule for i in bad]  # type: ignore[union-attr]
            skipped.add(gone, rules)
            good = np.setdiff1d(np.arange(len(images)), bad)
            batch = {name: column[good] for name, column in batch.items()}
            batch |= {"_skipped": _objects(gone), "_skipped_rules": _objects(rules)}
            images = [images[i] for i in good.tolist()]
        if self.maker.beside is not None and (mask := self.maker.beside.mask):
            batch[mask] = _stack(batch[mask].tolist())
        return {"image": _stack(images), **batch}

    def _mixed(self, chunks: Sequence[_Chunk], batch: Batch) -> Batch:
        """How much of each label is the partner's, whose that is, and the partner's label."""
        starts = np.cumsum([0, *(len(chunk.images) for chunk in chunks)])
        nobody = np.empty(0, np.int64)
        partner = np.concatenate([nobody, *(c.partner + s for c, s in zip(chunks, starts, strict=False))])
        shares = np.concatenate([np.empty(0), *(chunk.shares for chunk in chunks)])
        found: Batch = {"_mix_share": shares, "_mix_id": _objects([self.ids[i] for i in partner])}
        if "label" in batch:
            found["_mix_label"] = batch["label"][partner]
        return found

    def _numbered(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        classes = self.maker.classes or {}
        unknown = {label for label in labels if label is not None} - set(classes)
        if unknown:
            raise InputError(
                f"{len(unknown)} labels of a batch are not among classes=",
                where=self.maker.where,
                hint='list all, or give classes="auto"',
            )
        return np.array([-1 if label is None else classes[label] for label in labels], np.int64)


def _unreadable(where: str, row: str, error: Any) -> InputError:
    image = isinstance(error, BadImageError)
    return InputError(
        f"the image of row {row} cannot be read"
        if image
        else f"what belongs to the image of row {row} is wrong",
        where=where,
        why=str(error) if image else f"{error.rule}: {error.reason}",
        hint='on_error="skip" leaves such rows out and counts them; `gristmill why` tells where it came from',
    )


def _column(pieces: Sequence[Piece], name: str) -> pa.Array:
    parts = [gather(piece.table.column(name), piece.rows) for piece in pieces]
    return parts[0] if len(parts) == 1 else pa.concat_arrays(parts)


def _array(column: pa.Array) -> npt.NDArray[Any]:
    """Numbers as numbers (nulls: NaN), times as datetime64, vectors as rows, all else as Python objects."""
    kind = column.type
    if pa.types.is_list(kind) and (vectors := _vectors(column)) is not None:
        return vectors
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)
    if plain or (pa.types.is_boolean(kind) and not column.null_count):
        found: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return found if found.flags.writeable else found.copy()
    return _objects(column.to_pylist())


def _vectors(column: pa.ListArray) -> npt.NDArray[Any] | None:
    """Lists of numbers of one length (embeddings, say) as an array (n, length)."""
    numbers = column.flatten()
    lengths = np.unique(np.diff(column.offsets.to_numpy()))
    number = pa.types.is_floating(numbers.type) or pa.types.is_integer(numbers.type)
    if not number or column.null_count or numbers.null_count or len(lengths) != 1:
        return None
    found: npt.NDArray[Any] = numbers.to_numpy().reshape(len(column), int(lengths[0]))
    return found.copy()


def _objects(values: Sequence[Any]) -> npt.NDArray[Any]:
    found = np.empty(len(values), object)
    for i, value in enumerate(values):  # assigned at once, lists of one length would become an axis
        found[i] = value
    return found


def _stack(images: Sequence[Any]) -> Any:
    """One array where all have one shape and type; a list otherwise."""
    if not images or any(image is None for image in images):
        return list(images)
    first = images[0]
    if any(image.shape != first.shape or image.dtype != first.dtype for image in images):
        return list(images)
    return np.stack(images)
