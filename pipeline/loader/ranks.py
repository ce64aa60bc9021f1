"""Who am I among the processes that train? Asked of Ray Train where that is in charge."""

from __future__ import annotations

import sys

from lake.errors import ConfigError

__all__ = ["ray_train"]


def ray_train() -> tuple[int, int]:
    """Rank and number of the Ray Train workers.

    Ray is not imported: in one of its workers it is there already.

    Raises:
        ConfigError: this is no Ray Train worker.
    """
    train = sys.modules.get("ray.train")
    if train is not None:
        try:
            context = train.get_context()
            rank, world = context.get_world_rank(), context.get_world_size()
        except (RuntimeError, AttributeError):
            rank = world = None
        if rank is not None and world is not None:
            return int(rank), int(world)
    raise ConfigError(
        "shard() without rank and world outside of a Ray Train worker",
        hint="call it in the training function, or say shard(rank, world)",
    )
