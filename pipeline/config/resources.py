"""The key ``resources``: what each step asks of the cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.engine.needs import Needs, Pool

__all__ = ["INGEST", "Resources", "needs_of", "size"]

INGEST = "ingest"
"""Under this name stands what the reading of the sources asks for."""

_UNITS = {"": 1} | {
    f"{letter}{kind}": base**power
    for kind, base in (("B", 10**3), ("iB", 1 << 10))
    for power, letter in enumerate("KMGT", start=1)
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?((?:[KMGT]i?B)?)")


def size(text: str) -> int:
    """A number of bytes as people write it.

    >>> size("2GiB"), size("1.5 MB")
    (2147483648, 1500000)

    Raises:
        ValueError: it is no size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError("must be a size such as 2GiB or 500MB")
    return int(float(found[1]) * _UNITS[found[2]])


class Resources(BaseModel):
    """What a task of a step asks of the cluster; without a cluster nobody looks at it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus: Annotated[float, Field(gt=0)] = Field(1.0, description="Cores of a task, or of an actor.")
    gpus: Annotated[float, Field(ge=0)] = Field(0.0, description="GPUs; a fraction shares one.")
    memory: int | str | None = Field(
        None, description="Memory, such as 2GiB. Without it, it is chosen by the size of the part."
    )
    custom: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="Resources of your own cluster, by name."
    )
    actors: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Most actors of the step's pool; 0: as many as fit. With gpus, 0; without, no pool."
    )
    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(2, description="Calls an actor works on at a time.")
    idle_seconds: Annotated[float, Field(ge=0)] = Field(
        60.0, description="Seconds without work after which the actors give their GPUs back."
    )

    @field_validator("memory")
    @classmethod
    def _bytes(cls, value: int | str | None) -> int | None:
        found = size(value) if isinstance(value, str) else value
        if found is not None and found <= 0:
            raise ValueError("must be more than nothing")
        return found

    @field_validator("custom")
    @classmethod
    def _not_ours(cls, value: dict[str, float]) -> dict[str, float]:
        if taken := sorted({"CPU", "GPU", "memory", "object_store_memory"} & set(value)):
            raise ValueError(f"{taken[0]} has a key of its own")
        return value

    def needs(self) -> Needs:
        """As an engine takes it."""
        pooled = self.actors is not None or self.gpus > 0
        return Needs(
            cpus=self.cpus,
            gpus=self.gpus,
            memory=int(self.memory or 0),
            custom=tuple(sorted(self.custom.items())),
            pool=Pool(self.actors or 0, self.concurrency, self.idle_seconds) if pooled else None,
        )


def needs_of(resources: Mapping[str, Resources], label: str) -> Needs | None:
    """What is said of a step by its label (``2 dedup.MinHash``), or else by its name (``dedup.MinHash``)."""
    found = resources.get(label) or resources.get(label.partition(" ")[2])
    return found.needs() if found else None
