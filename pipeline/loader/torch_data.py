"""Batches for ``torch.utils.data.DataLoader``.

The dataset is iterable and gives whole batches. Worker w of W makes every W-th one, beginning with the w-th;
the DataLoader takes from its workers in turn, so that the stream is that of a single process. Which epoch it
is stands in memory that the workers share: every worker writes down which epoch it comes to next, and the
current one is the least of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from lake.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.loader.loader import Loader

__all__ = ["TorchLoader", "dataset"]

_MOST_WORKERS = 1024
_TURN = 1 << 32  # in one number: which turn (see `sync`) and, below 2**32, an epoch


def _torch() -> Any:
    try:
        return import_module("torch")
    except ImportError as error:
        raise ConfigError(
            "PyTorch is not installed", hint="pip install torch, or iterate over the loader itself"
        ) from error


def dataset(loader: Loader) -> Any:
    """See :meth:`pipeline.loader.Loader.torch`."""
    torch = _torch()
    loader.prepare()
    done = torch.full((_MOST_WORKERS,), -1, dtype=torch.int64).share_memory_()
    start = torch.tensor([loader.epoch, loader.step, loader.generation, 0], dtype=torch.int64).share_memory_()
    return _again(loader, done, start)


def _again(loader: Loader, done: Any, start: Any) -> Any:
    return _class()(loader, done, start)


@cache
def _class() -> Any:
    """The class of the datasets: made when PyTorch is there to derive it from."""
    torch = _torch()

    base: Any = torch.utils.data.IterableDataset

    class Batches(base):  # type: ignore[misc]  # PyTorch may be absent: Any here
        """Batches of a loader, as tensors; texts and ids as lists."""

        def __init__(self, loader: Loader, done: Any, start: Any) -> None:
            self.loader, self.done, self.start = loader, done, start

        def __reduce__(self) -> tuple[Any, ...]:
            return _again, (self.loader, self.done, self.start)

        def __len__(self) -> int:
            return len(self.loader)

        def set_epoch(self, epoch: int) -> None:
            """Go to the start of an epoch, in all workers."""
            self.loader.set_epoch(epoch)
            self.sync()

        def sync(self) -> None:
            """Let the workers begin where the loader stands."""
            loader, turn = self.loader, int(self.start[3]) + 1
            self.start[:] = torch.tensor([loader.epoch, loader.step, loader.generation, turn])

        def __iter__(self) -> Iterator[dict[str, Any]]:
            return _batches(torch, self)

    return Batches


def _batches(torch: Any, data: Any) -> Iterator[dict[str, Any]]:
    """What is left of the epoch; in a worker, its share of it."""
    info, loader = torch.utils.data.get_worker_info(), data.loader
    if info is None:
        for batch in loader:
            yield _tensors(torch, batch, loader.epoch, loader.step)
        return
    epoch, step, generation, turn = data.start.tolist()
    if generation != loader.generation:
        raise ConfigError(
            "a state was loaded while the workers of a DataLoader were running",
            hint="load the state first, then make the DataLoader",
        )
    # A worker that was left in the middle may write its last word after a new turn began: it does not count.
    said = [divmod(each, _TURN) for each in data.done[: info.num_workers].tolist()]
    current = min(done if of == turn else epoch for of, done in said)
    loader.go(current, step if current == epoch else 0)
    threads = loader.threads(info.num_workers)
    for number, batch in loader.run(info.id, info.num_workers, threads):
        yield _tensors(torch, batch, current, number + 1)
    data.done[info.id] = turn * _TURN + current + 1


def _tensors(torch: Any, batch: Mapping[str, Any], epoch: int, step: int) -> dict[str, Any]:
    made = {name: _tensor(torch, value) for name, value in batch.items()}
    made["_position"] = torch.tensor([epoch, step])
    return made


def _tensor(torch: Any, value: Any) -> Any:
    if isinstance(value, list):
        return [_tensor(torch, each) for each in value]
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value) if value.dtype.kind in "biuf" else value.tolist()
    return value


class TorchLoader:
    """A DataLoader that moves the loader's position along; see :meth:`pipeline.loader.Loader.dataloader`."""

    def __init__(self, loader: Loader, num_workers: int, options: Mapping[str, Any]) -> None:
        self.loader = loader
        self._options: dict[str, Any] = {"num_workers": num_workers, **options}
        for name in ("batch_size", "shuffle", "sampler", "batch_sampler", "collate_fn", "drop_last"):
            if name in options:
                raise ConfigError(
                    f"{name}= is the loader's business, not the DataLoader's", hint="see pipeline.Loader"
                )
        if num_workers and not loader.local:
            self._options.setdefault(
                "multiprocessing_context", "spawn"
            )  # object stores' clients do not survive a fork
        self._made: tuple[int, Any, Any] | None = None
        _torch()

    def _inner(self) -> tuple[Any, Any]:
        if self._made is None or self._made[0] != self.loader.generation:
            data = self.loader.torch()
            made = _torch().utils.data.DataLoader(data, batch_size=None, **self._options)
            self._made = (self.loader.generation, data, made)
        return self._made[1:]

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.loader.settle()
        data, made = self._inner()
        data.sync()
        epoch = self.loader.epoch
        for batch in made:
            self.loader.go(epoch, int(batch["_position"][1]))
            if self._options["num_workers"] and "_skipped" in batch:  # counted there, and not heard of here
                self.loader.skipped.add(batch["_skipped"], batch["_skipped_rules"])
            yield batch
        self.loader.set_epoch(epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """The loader's."""
        return self.loader.state_dict()

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The loader's."""
        self.loader.load_state_dict(saved)
