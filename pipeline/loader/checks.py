"""What a loader looks at before it gives the first batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lake.errors import ConfigError, SchemaError

if TYPE_CHECKING:
    from pipeline.loader.late import Augmentation
    from pipeline.loader.settings import Settings
    from pipeline.loader.share import Share
    from pipeline.loader.source import Source

__all__ = ["check_columns", "check_pairs"]


def check_columns(settings: Settings, source: Source) -> None:
    """Whether the table has the columns that the settings need.

    Raises:
        SchemaError: it has not.
    """
    names, beside = source.schema.names, settings.beside.names
    if settings.policy is not None and settings.policy != "table" and "_id" not in names:
        raise SchemaError("a policy needs the column '_id'", where=source.where)
    for name in (*beside, *(["image"] if beside else [])):
        if name not in names:
            raise SchemaError(f"there is no column {name!r} to move with the images", where=source.where)


def check_pairs(settings: Settings, augmentation: Augmentation | None, share: Share) -> None:
    """Whether each row and the one beside it in the epoch's order are always in one batch, if they are mixed.

    Raises:
        ConfigError: they are not, or what belongs to them cannot be mixed.
    """
    if augmentation is None or not augmentation.mixes:
        return
    if settings.beside.names:
        raise ConfigError(
            "the policy mixes images, and there is no mixture of masks, boxes and keypoints",
            hint="take a policy without MixUp and CutMix",
        )
    even = share.batch % 2 == 0 and all(start % 2 == 0 for start, _ in share.spans)
    if not even or share.by != "batch" or (share.last == "pad" and share.total % 2):
        raise ConfigError(
            "the policy mixes each image with its neighbour, and the two would come into different batches",
            hint='take an even batch_size, by="batch", and not last="pad" with an odd number of rows',
        )
