"""What is rendered: a configuration, and what it needs where it will run."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from lake.errors import ConfigError
from pipeline.config import Config, dump, load
from pipeline.render.options import Options

__all__ = ["Pod", "Workload", "fill"]

_GLOB = re.compile(r"[*?\[{]")


@dataclass(frozen=True)
class Pod:
    """What a worker has.

    Args:
        cpus: cores, a whole number for Ray.
        memory: bytes.
        gpus: whole GPUs.
        custom: further resources of Ray, by name.
    """

    cpus: int
    memory: int
    gpus: int = 0
    custom: tuple[tuple[str, float], ...] = ()

    @property
    def resources(self) -> str:
        """The custom resources as ``ray start --resources`` takes them from a manifest."""
        return json.dumps(json.dumps(dict(self.custom))) if self.custom else ""

    @property
    def mebibytes(self) -> str:
        """Memory as Kubernetes writes it."""
        return f"{-(-self.memory // (1 << 20))}Mi"


@dataclass(frozen=True)
class Workload:
    """A configuration with how it is to be rendered.

    Args:
        path: of the configuration, absolute.
        config: as read, with its overrides.
        overrides: ``path=value`` each.
        options: how it is rendered.
    """

    path: Path
    config: Config
    overrides: tuple[str, ...]
    options: Options

    @classmethod
    def read(cls, path: str | Path, overrides: Sequence[str], options: Options) -> Workload:
        """Read and check.

        Raises:
            ConfigError: the configuration, the cron expression or the time zone is wrong.
        """
        from pipeline.schedule.spec import standard, zone

        if options.cron is not None:
            standard(options.cron)
        zone(options.timezone)
        return cls(Path(path).absolute(), load(path, overrides), tuple(overrides), options)

    def gap(self) -> float:
        """Seconds between two fires, where they are closest."""
        from pipeline.schedule.spec import Schedule
        from pipeline.schedule.times import shortest_gap

        spec = Schedule(name="any", cron=str(self.options.cron), timezone=self.options.timezone)
        return shortest_gap(spec, datetime(2024, 1, 1, tzinfo=UTC)).total_seconds()

    def name(self, longest: int) -> str:
        """The pipeline's name for Kubernetes; with a digest where that changes it, so that two stay two."""
        given = self.config.name
        name = f"gristmill-{given.replace('_', '-').strip('-')}"
        if name == f"gristmill-{given}" and len(name) <= longest:
            return name
        digest = hashlib.blake2b(given.encode(), digest_size=3).hexdigest()
        return f"{name[: longest - len(digest) - 1].rstrip('-')}-{digest}"

    def shipped(self) -> str:
        """The configuration as text that means the same in a pod: no path of this machine.

        Raises:
            ConfigError: the lake or a source is a local folder that is not on the claim.
        """
        volume = self.options.volume()
        for place in self.local_places():
            if volume is None or not PurePosixPath(place).is_relative_to(volume[1]):
                raise ConfigError(
                    "the lake or a source is a folder that the pods do not see",
                    where=str(self.path),
                    why=place if volume is None else f"{place} is not under {volume[1]}",
                    hint="--set lake=s3://bucket/lake, and the same for source.paths; or --claim NAME:/path "
                    "for a shared volume that all of them are on",
                )
        pinned = [
            each.model_copy(update={"paths": _absolute(each.paths, self.config.base)})
            for each in self.config.source
        ]
        return dump(self.config.model_copy(update={"source": tuple(pinned)}))

    def local_places(self) -> Iterator[str]:
        """Folders of the lake and of the sources on this machine, a glob up to its first star."""
        sources = [path for each in self.config.source for path in _several(each.paths)]
        for path in [self.config.lake, *sources]:
            if "://" not in path.removeprefix("file://"):
                parts = Path(_absolute(path.removeprefix("file://"), self.config.base)).parts
                fixed = next((at for at, part in enumerate(parts) if _GLOB.search(part)), len(parts))
                yield str(Path(*parts[:fixed]))

    def pods(self) -> tuple[Pod, Pod | None]:
        """The workers that the steps need: without a GPU, and with one where a step asks for it."""
        asked = dict(self.config.resources.items())
        plain = [each for each in asked.values() if not each.gpus]
        on_gpu = [each for each in asked.values() if each.gpus]
        custom = tuple(
            sorted({name: amount for each in asked.values() for name, amount in each.custom.items()}.items())
        )
        cpu = self._pod(plain, custom=custom)
        if not on_gpu and not any(_on_cuda(step) for step in self.config.steps):
            return cpu, None
        return cpu, self._pod(on_gpu, gpus=max([1, *(math.ceil(each.gpus) for each in on_gpu)]), custom=custom)

    def _pod(self, asked: Sequence[Any], **more: Any) -> Pod:
        cpus = max([self.options.cpus, *(each.cpus for each in asked)])
        memory = max([self.options.memory, *(int(each.memory or 0) for each in asked)])
        return Pod(math.ceil(cpus), memory, **more)


def fill(template: str, **values: Any) -> str:
    """A file from its template. ``value | q`` is a string that YAML and Python read back as the same."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(  # noqa: S701  (nothing here is HTML)
        loader=PackageLoader("pipeline.render", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["q"] = _quoted
    return found.get_template(template).render(**values)


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=not isinstance(value, str) or not value.isprintable())


def _several(paths: str | Sequence[str]) -> Sequence[str]:
    return [paths] if isinstance(paths, str) else paths


def _absolute(paths: Any, base: Path) -> Any:
    if not isinstance(paths, str):
        return type(paths)(_absolute(each, base) for each in paths)
    return paths if "://" in paths else str(Path(base, paths).expanduser().absolute())


def _on_cuda(step: object) -> bool:
    return getattr(step, "device", "cpu") == "cuda"
