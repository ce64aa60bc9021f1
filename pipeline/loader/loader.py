"""Batches of a table at one version: the same ones whatever reads them."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from lake.errors import ConfigError
from lake.lake import Lake
from lake.machine import cores
from pipeline.loader import ranks, state
from pipeline.loader.batch import Batch, Maker, Pending, Skipped
from pipeline.loader.checks import check_columns, check_pairs
from pipeline.loader.decode import Decoder, decoder
from pipeline.loader.feed import Reading, feed
from pipeline.loader.late import Augmentation, known_policies, resolve
from pipeline.loader.mapped import Copy
from pipeline.loader.order import Order, make_order
from pipeline.loader.settings import Settings
from pipeline.loader.share import Share
from pipeline.loader.source import open_source

__all__ = ["Loader"]

_MOST_THREADS = 16


class Loader:
    """A stream of batches with a position: (epoch, step).

    Iterating gives what is left of the current epoch, batch by batch, and then stands at the start of the
    next one. The rows of an epoch come in an order that depends on the table's version, ``seed`` and the epoch
    alone; what a row looks like depends on its ``_id``, ``seed`` and the epoch alone.

    Args:
        lake: the lake, or its folder or URL.
        table: its table.
        version: of the table; None: the newest, which is looked up once (:attr:`version`).
        batch_size: rows of a batch (of one rank).
        seed: of order and augmentation; None: 0 for the order, for the augmentation what the rows name.
        shuffle: ``"window"``, ``"full"`` or ``"none"``: see :mod:`pipeline.loader.order`.
        window: bytes of rows that are mixed with each other; twice as many are held.
        spread: slices per row group; more mix better, and read the table so many times an epoch.
        columns: which ones; None: all but ``_source``, ``meta`` and ``_augmented``.
        filter: a pyarrow expression; other rows are left out.
        policy: a policy, a preset's name, None, or ``"table"``: what the rows name (:mod:`augment.late`). One
            with MixUp or CutMix mixes a row with its neighbour in the epoch's order (the 1st and 2nd, the 3rd
            and 4th, ...): ``_mix_share`` says how much of the label is the partner's, ``_mix_label`` its label.
        augment_at: where the policy is applied: ``"stored"``: to the stored pixels; ``"size"``: after ``size``.
        classes: labels in the order of their numbers, or ``"auto"``: all labels there are, sorted. ``label``
            then is int64, -1 for none.
        mode: ``"RGB"`` or ``"L"``; None: as stored.
        size: (height, width) or one number: resized and cut to it, see :mod:`pipeline.loader.finish`.
        resize: ``"pillow"`` or ``"opencv"``.
        dtype: ``"float32"`` or ``"float16"``, in 0 .. 1; None: as stored.
        normalize: (mean, std) per channel, in the scale 0 .. 1; makes float32 unless told.
        layout: ``"NHWC"`` or ``"NCHW"``.
        decoder: ``"auto"``, ``"pillow"`` or ``"nvjpeg"``: see :mod:`pipeline.loader.decode`.
        mask: a column with an encoded mask of the image's size, which moves with the image through the policy
            and to ``size``: see :mod:`pipeline.loader.beside`. "" for none, as for the next two.
        boxes: a column with boxes, likewise; its forms: :mod:`augment.annotations`. ``_box_items`` says what
            each of those that are left stood in.
        keypoints: a column with keypoints, likewise; NaN where one is not in the image.
        box_format: of the boxes, before and after: ``pascal_voc``, ``coco`` or ``yolo``.
        least_visible: share of its area that a box must have left, or it is dropped.
        on_error: ``"raise"``, or ``"skip"``: rows whose image cannot be read are left out, named under
            ``_skipped`` (and ``_skipped_rules``) in their batch, and counted in :attr:`skipped`.
        last: the last batches: ``"keep"``, ``"drop"`` or ``"pad"``: see :class:`pipeline.loader.share.Share`.
        by: how ranks share: ``"batch"`` or ``"stretch"``: see :mod:`pipeline.loader.share`.
        rank: of this process; see also :meth:`shard`.
        world: number of ranks.
        threads: for decoding and augmenting; None: the cores (at most 16).
        prefetch: batches that are made ahead.
        cache: folder for the copy that a full shuffle needs; None: below the system's temporary folder.
        storage_options: of the lake, see :class:`lake.Lake`.

    Raises:
        MissingTableError: no such table or version.
        SchemaError: no such column.
        ConfigError: an argument is wrong.

    >>> import tempfile, pyarrow as pa
    >>> from lake.lake import Change
    >>> schema = pa.schema([("_id", pa.string()), ("text", pa.string())])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lake = Lake(folder)
    ...     rows = pa.table({"_id": [f"{i:032x}" for i in range(5)], "text": list("abcde")}, schema=schema)
    ...     part = lake.write_part("train", "p", [rows], schema)
    ...     _ = lake.commit([Change("train", schema, add=(part,))], app="me", version=1)
    ...     loader = Loader(lake, batch_size=2, shuffle="none")
    ...     [batch["text"].tolist() for batch in loader], loader.version, loader.epoch
    ([['a', 'b'], ['c', 'd'], ['e']], 1, 1)
    """

    def __init__(
        self,
        lake: Lake | str | Path,
        table: str = "train",
        *,
        version: int | None = None,
        storage_options: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self._lake = lake if isinstance(lake, Lake) else Lake(lake, storage_options)
        self.table = table
        self._asked = version
        try:
            self.settings = Settings(**settings)
        except TypeError as error:
            raise ConfigError("an argument that the loader does not have", why=str(error)) from error
        self.skipped = Skipped()
        self.generation = 0
        self._open(version)
        self._move(0, 0)

    def _open(self, version: int | None) -> None:
        s = self.settings
        self._source = open_source(self._lake, self.table, version, s.columns, s.filter)
        check_columns(s, self._source)
        self._augmentation = self._augment()
        self.classes = self._classes()
        self._copy = Copy(self._source, s.cache) if s.shuffle == "full" else None
        self._order: tuple[int, Order] | None = None

    def _augment(self) -> Augmentation | None:
        policy, names = self.settings.policy, self._source.schema.names
        if policy is None or (policy == "table" and "_policy" not in names):
            return None
        if policy == "table":
            return Augmentation(self._lake, None, self.settings.seed, known_policies(self._lake))
        if "_copy" in names and self.settings.filter is None:
            raise ConfigError(
                "a policy for a table that holds augmented copies already",
                where=self._source.where,
                hint='load the originals: filter=pyarrow.compute.field("_copy") == 0',
            )
        return Augmentation(None, resolve(policy), self.settings.seed)

    def _classes(self) -> tuple[str, ...] | None:
        wanted = self.settings.classes
        if wanted != "auto":
            return None if wanted is None else tuple(wanted)
        found: set[str] = set()
        for batch in self._lake.table(self.table).scan(["label"], self.version, self.settings.filter):
            found.update(pc.unique(batch.column("label")).drop_null().to_pylist())
        return tuple(sorted(found))

    # What it is

    @property
    def version(self) -> int:
        """The table's version, pinned."""
        return self._source.version

    @property
    def rows(self) -> int:
        """Rows of an epoch, of all ranks."""
        return len(self._source)

    @property
    def decoder(self) -> str:
        """What decodes images, with versions."""
        return self._decoder.name

    @property
    def _decoder(self) -> Decoder:
        return decoder(self.settings.decoder)

    @property
    def seed(self) -> int:
        """The seed of the order."""
        return self.settings.seed or 0

    def __len__(self) -> int:
        """Batches of a whole epoch, of this rank."""
        return len(self._share(((0, self.rows),)))

    def __repr__(self) -> str:
        s = self.settings
        rank = f", rank {s.rank} of {s.world}" if s.world > 1 else ""
        return (
            f"Loader({self._source.where}, {self.rows:,} rows, {len(self):,} batches of {s.batch_size}{rank})"
        )

    def order(self, epoch: int | None = None) -> npt.NDArray[np.int64]:
        """The rows of an epoch in their order, int64: numbers of rows of the table (after the filter)."""
        order = self._order_of(self.epoch if epoch is None else epoch)
        return np.concatenate([np.empty(0, np.int64), *(order.rows(w) for w in range(len(order.starts) - 1))])

    def _order_of(self, epoch: int) -> Order:
        if self._order is None or self._order[0] != epoch:
            s, source = self.settings, self._source
            made = make_order(
                source.counts,
                source.sizes,
                self.seed,
                epoch,
                shuffle=s.shuffle,
                window=s.window,
                spread=s.spread,
            )
            self._order = (epoch, made)
        return self._order[1]

    def _share(self, spans: Sequence[tuple[int, int]]) -> Share:
        s = self.settings
        return Share(tuple(spans), s.batch_size, s.rank, s.world, s.by, s.last)

    # Batches

    def __iter__(self) -> Iterator[Batch]:
        self.settle()
        epoch = self.epoch
        for number, batch in self.run(threads=self.threads()):
            self._step = number + 1  # before the batch is given: whoever saves now has had it
            yield batch
        if self.epoch == epoch:
            self._move(epoch + 1, 0)

    def run(self, worker: int = 0, workers: int = 1, threads: int = 1) -> Iterator[tuple[int, Batch]]:
        """Every ``workers``-th batch from the position on, with its number; the position does not move."""
        share, epoch, start = self._share(self._spans), self.epoch, self._step
        check_pairs(self.settings, self._augmentation, share)
        numbers = range(start + worker, len(share), workers)
        order, maker = self._order_of(epoch), self._maker(epoch)
        reading = Reading(self._source)
        pool = ThreadPoolExecutor(threads, thread_name_prefix="gristmill-load")
        begin = reading.start if self._copy is None else self._mapped
        batches = feed((share.positions(k)[0] for k in numbers), order, begin, self.settings.window)
        waiting: deque[tuple[int, Pending]] = deque()
        try:
            for number, pieces in zip(numbers, batches, strict=True):
                repeated = share.positions(number)[1] if share.last == "pad" else None
                waiting.append((number, maker.start(pieces, pool, repeated)))
                if len(waiting) > self.settings.prefetch:
                    done, pending = waiting.popleft()
                    yield done, pending.result(self.skipped)
            while waiting:
                done, pending = waiting.popleft()
                yield done, pending.result(self.skipped)
        finally:
            pool.shutdown(cancel_futures=True)
            reading.close()

    def _mapped(self, rows: npt.NDArray[np.int64]) -> Any:
        assert self._copy is not None  # noqa: S101  (for mypy)
        held = self._copy.load(rows)
        return 0, lambda: held

    def _maker(self, epoch: int) -> Maker:
        augmentation = self._augmentation
        classes = None if self.classes is None else {label: i for i, label in enumerate(self.classes)}
        return Maker(
            decode=self._decoder,
            finish=self.settings.finish,
            augment=None if augmentation is None else partial(augmentation.images, epoch),
            mix=partial(augmentation.mixed, epoch) if augmentation is not None and augmentation.mixes else None,
            texts=None if augmentation is None else partial(augmentation.texts, epoch),
            beside=self.settings.beside if self.settings.beside.names else None,
            move=None if augmentation is None else partial(augmentation.moved, epoch),
            first_size=self.settings.augment_at == "size",
            classes=classes,
            on_error=self.settings.on_error,
            where=self._source.where,
        )

    @property
    def local(self) -> bool:
        """Whether the lake is a folder of this machine."""
        return self._lake.storage.local

    def threads(self, workers: int = 1) -> int:
        """Threads of one of so many worker processes."""
        return self.settings.threads or max(1, min(cores(), _MOST_THREADS) // workers)

    # Position

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self._move(epoch, 0)

    @property
    def step(self) -> int:
        """Batches of the epoch that were given."""
        return self._step

    def _move(self, epoch: int, step: int, spans: Sequence[tuple[int, int]] | None = None) -> None:
        self.epoch, self._step = epoch, step
        self._spans = ((0, self.rows),) if spans is None else tuple((a, z) for a, z in spans)

    def go(self, epoch: int, step: int) -> None:
        """Go to a batch of the current epoch, or of another."""
        self._move(epoch, step, self._spans if epoch == self.epoch else None)

    def settle(self) -> None:
        """Past the last batch of an epoch is the start of the next one: go there."""
        if self._step and self._step >= len(self._share(self._spans)):
            self._move(self.epoch + 1, 0)

    def state_dict(self, after: Any = None) -> dict[str, Any]:
        """Where the stream stands: plain values, fit for JSON.

        Args:
            after: ``_position`` of the last batch that was used, where a DataLoader of your own reads ahead.
        """
        if after is not None:
            return state.save(self, int(after[0]), int(after[1]))
        return state.save(self, self.epoch, self._step)

    def load_state_dict(self, saved: Mapping[str, Any], *, strict: bool = True) -> None:
        """Go on where ``saved`` stands: the same rows, byte for byte, that an undisturbed stream would give.

        The version of the table is taken over unless this loader was given one. Ranks and batch size may
        differ: then what is left of the epoch is shared anew, every row once. (With ``by="batch"`` the rows of
        a step are those of the undisturbed stream as long as ranks times batch size stays the same.)

        Raises:
            ConfigError: the state is of another stream (table, version, filter, seed, shuffle, policy), and
                which of these it is; ``strict=False`` lets another policy pass.
        """
        epoch, step, spans = state.load(self, saved, strict=strict)
        self._move(epoch, step, spans)
        self.generation += 1

    def pin(self, version: int) -> None:
        """Go to another version of the table, at the start of its first epoch."""
        if version != self.version:
            self._open(version)
        self._move(0, 0)

    # Elsewhere

    def shard(self, rank: int | None = None, world: int | None = None) -> Loader:
        """The part of one rank: a loader of its own, at the same position.

        Without arguments: rank and world of the Ray Train worker that this runs in.

        Raises:
            ConfigError: this is no Ray Train worker.
        """
        if rank is None or world is None:
            rank, world = ranks.ray_train()
        other = copy.copy(self)
        other.settings = self.settings.change(rank=rank, world=world)
        other.skipped = Skipped()
        return other

    def prepare(self) -> None:
        """Make the copy that a full shuffle needs, once, before processes that share it start."""
        if self._copy is not None:
            self._copy.make()

    def torch(self) -> Any:
        """An ``IterableDataset`` of whole batches, for ``DataLoader(..., batch_size=None)``.

        Raises:
            ConfigError: PyTorch is not installed.
        """
        from pipeline.loader import torch_data

        return torch_data.dataset(self)

    def dataloader(self, num_workers: int = 0, **options: Any) -> Any:
        """A ``torch.utils.data.DataLoader`` whose position is this loader's, so that ``state_dict`` is exact.

        With ``num_workers=0`` decoding runs on threads of this process, which is the quickest way mostly.

        Args:
            num_workers: processes.
            options: of the DataLoader (``persistent_workers``, ``pin_memory``, ...).

        Raises:
            ConfigError: PyTorch is not installed.
        """
        from pipeline.loader import torch_data

        return torch_data.TorchLoader(self, num_workers, options)

    def to_hf(self, folder: str | Path, *, split: str = "train", shard_bytes: int = 500 << 20) -> list[Path]:
        """The table's rows as Parquet files that Hugging Face ``datasets`` reads, ``image`` as an ``Image``.

        See :func:`pipeline.loader.hub.write`.
        """
        from pipeline.loader import hub

        return hub.write(self._source, Path(folder), self.classes, split=split, shard_bytes=shard_bytes)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_order": None}  # worked out again where it is needed
