"""The configuration: a frozen value that YAML, Python and the command line share.

The keys of the YAML are the arguments of :class:`Config`; a step's key is its import path:

>>> config = loads('''
... name: docs
... lake: ./lake
... source: {lake.Files: {paths: "*.jsonl"}}
... ''')
>>> config.name, config.sink.name, config.source[0].paths
('docs', 'train', '*.jsonl')
>>> loads(dump(config)) == config
True
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SerializeAsAny,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from lake.errors import ConfigError, ExitCode, GristmillError
from lake.files import Files
from lake.op import Barrier, Op, Step
from lake.storage import complaint
from pipeline.config.resources import INGEST, Resources
from pipeline.config.strictyaml import Problem, Source, emit

__all__ = ["Config", "InvalidConfigError", "Settings", "Sink", "dump", "load", "loads"]

TABLE_NAME = r"^[A-Za-z][A-Za-z0-9_]{0,63}$"
_LOCKS = frozenset({"forget", "maintenance", "rewrite"})
"""What a lake locks beside pipelines and tables."""
"""Names of tables; those that begin with an underscore are Gristmill's own."""


class InvalidConfigError(ConfigError):
    """All that is wrong with a configuration; ``errors`` holds one :class:`Problem` each."""

    exit_code = ExitCode.USAGE

    def __init__(self, errors: Sequence[Problem]) -> None:
        self.errors = tuple(errors)
        first = self.errors[0]
        GristmillError.__init__(self, first.message, where=first.where, hint=first.hint or None)

    def __str__(self) -> str:
        blocks = [str(problem) for problem in self.errors]
        if len(blocks) > 1:
            blocks.append(f"{len(blocks)} problems")
        return "\n".join(blocks)

    def __reduce__(self) -> tuple[object, ...]:
        return InvalidConfigError, (self.errors,)


class Sink(Step):
    """The table that the pipeline fills, written ``{lake.Table: {name: train}}``."""

    name: str = Field("train", pattern=TABLE_NAME, description="Name of the table in the lake.")


class Settings(BaseModel):
    """The plain keys of a configuration: all but source, steps and sink."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="Name of the pipeline: small letters, digits, - and _. Runs and drops are filed under it.",
    )
    lake: str = Field(
        min_length=1,
        description="Folder of the lake, relative to the configuration's, or a URL (s3, gs, az, abfss).",
    )
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = Field(
        0, description="Seed of the pipeline; steps with a seed of their own do not look at it."
    )
    allowed_rejects: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of the read rows that may be unreadable before a run ends with exit code 3.",
    )
    allowed_leaving: float = Field(
        1.0,
        ge=0,
        le=1,
        description="With on_change: follow, the share of the rows that one run may lose with their files, "
        "less what it reads anew; where it is more, the run ends and changes nothing.",
    )
    raw: str = Field("raw", pattern=TABLE_NAME, description="Table of the rows as read.")
    clean: str = Field(
        "clean", pattern=TABLE_NAME, description="Table before the first step that makes copies."
    )
    plugins: tuple[str, ...] = Field((), description="Modules with steps of your own, as in an import.")
    resources: dict[str, Resources] = Field(
        default_factory=dict,
        description="What a step asks of a cluster, by its name, or its number and name; `ingest` for reading.",
    )

    @field_validator("lake")
    @classmethod
    def _known_storage(cls, value: str) -> str:
        if wrong := complaint(value):
            raise ValueError(wrong)
        return value


class Config(Settings):
    """A pipeline: where rows come from, what happens to them, where they go.

    Python takes steps as values (``dedup.MinHash(threshold=0.8)``), a single source without a list,
    and the sink by its name.

    Raises:
        InvalidConfigError: all that is wrong, at once.
    """

    source: tuple[SerializeAsAny[Files], ...] = Field(min_length=1, description="The files to read.")
    steps: tuple[SerializeAsAny[Step], ...] = Field((), description="What happens to the rows, in order.")
    sink: Sink = Field(default_factory=Sink, description="The table to fill.")
    base: Path = Field(Path(), exclude=True, repr=False, description="Where relative source paths start.")

    @field_validator("source", mode="before")
    @classmethod
    def _one_source(cls, value: object) -> object:
        return (value,) if isinstance(value, Files) else value

    @field_validator("sink", mode="before")
    @classmethod
    def _sink_by_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("steps")
    @classmethod
    def _only_steps(cls, value: tuple[Step, ...]) -> tuple[Step, ...]:
        for number, step in enumerate(value, 1):
            if not isinstance(step, Op | Barrier):
                msg = f"step {number} is a {type(step).__name__}, not a lake.op.Op or Barrier"
                raise ValueError(msg)  # noqa: TRY004  (pydantic collects ValueErrors)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if complaint := clash(self.raw, self.clean, self.sink.name):
            raise ValueError(complaint)
        if self.name in _LOCKS | {f"table-{table}" for table in (self.raw, self.clean, self.sink.name)}:
            msg = f"name: {self.name!r} is the name of a lock in every lake: the pipeline would wait for itself"
            raise ValueError(msg)
        if late := late_barrier(self.steps):
            raise ValueError(late[1])
        known = resource_names(self.steps, self.plugins)
        if strange := [name for name in self.resources if name not in known]:
            msg = f"resources: there is no step {strange[0]!r}; known: {', '.join(known)}"
            raise ValueError(msg)
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _all_at_once(cls, data: Any, handler: ModelWrapValidatorHandler[Config]) -> Config:
        try:
            return handler(_with_plugins(data))
        except ValidationError as error:
            raise InvalidConfigError(
                [
                    Problem(
                        "Config",
                        0,
                        0,
                        each["msg"].removeprefix("Value error, "),
                        ".".join(str(part) for part in each["loc"]),
                    )
                    for each in error.errors(include_url=False)
                ]
            ) from error

    @field_serializer("source", "steps")
    def _keyed(self, value: tuple[Step, ...]) -> list[dict[str, Any]]:
        return [self._one(step, full=True) for step in value]

    @field_serializer("sink")
    def _keyed_sink(self, value: Sink) -> dict[str, Any]:
        return self._one(value, full=True)

    def to_dict(self, *, full: bool = True) -> dict[str, Any]:
        """The document as plain values; without defaults unless ``full``."""
        document: dict[str, Any] = {"name": self.name, "lake": self.lake}
        sources = [self._one(each, full=full) for each in self.source]
        document["source"] = sources[0] if len(sources) == 1 else sources
        document["steps"] = [self._one(each, full=full) for each in self.steps]
        document["sink"] = self._one(self.sink, full=True)
        rest = self.model_dump(
            mode="json", exclude={"name", "lake", "source", "steps", "sink"}, exclude_defaults=not full
        )
        return {**document, **rest}

    def _one(self, step: Step, *, full: bool) -> dict[str, Any]:
        from pipeline.config.catalog import SINK_KEY, key_of

        key = SINK_KEY if isinstance(step, Sink) else key_of(type(step), self.plugins)
        return {key: step.model_dump(mode="json", exclude_defaults=not full)}


def _with_plugins(data: Any) -> Any:
    """The arguments, with the modules of foreign steps among the plugins: YAML will need to import them."""
    from pipeline.config.catalog import MODULES, key_of

    if not isinstance(data, dict):
        return data
    plugins = list(data.get("plugins", ()))
    sources = data.get("source", ())
    for step in [*([sources] if isinstance(sources, Step) else sources), *data.get("steps", ())]:
        if isinstance(step, Step):
            module = key_of(type(step), plugins).rpartition(".")[0]
            if module not in MODULES and module not in plugins and module != "__main__":
                plugins.append(module)
    return {**data, "plugins": tuple(plugins)}


def clash(raw: str, clean: str, sink: str) -> str | None:
    """What is wrong with the names of the tables, if anything."""
    # Names that differ in case only would share a folder on some file systems.
    if len({raw.lower(), clean.lower(), sink.lower()}) == 3:  # noqa: PLR2004  (three tables, three names)
        return None
    return f"raw ({raw}), clean ({clean}) and the sink ({sink}) must be three different tables"


def late_barrier(steps: Sequence[Step]) -> tuple[int, str] | None:
    """The first step that compares rows after training copies were made, and why it cannot."""
    copies = False
    for index, step in enumerate(steps):
        if copies and isinstance(step, Barrier) and not step.augments:
            name = type(step).__name__
            return (
                index,
                f"{name} compares rows, so it must stand before the first step that makes training copies",
            )
        copies = copies or step.augments
    return None


def resource_names(steps: Sequence[Step], plugins: Sequence[str]) -> tuple[str, ...]:
    """The names that may stand under ``resources``: of each step, with and without its number."""
    from pipeline.config.catalog import key_of

    keys = [key_of(type(step), plugins) for step in steps]
    numbered = [f"{number} {key}" for number, key in enumerate(keys, start=1)]
    return tuple(dict.fromkeys([INGEST, *keys, *numbered]))


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file.

    Args:
        path: the YAML file; paths in it are relative to its folder.
        overrides: edits such as ``steps.1.threshold=0.7``, as ``--set`` takes them. An override is the
            edit that it names: the same as changing the file.

    Raises:
        InvalidConfigError: all that is wrong with it, each with its line and column.
    """
    from pipeline.config.reader import read, read_text

    source = read_text(Path(path))
    return read(source, overrides, base=Path(path).absolute().parent)


def loads(text: str, name: str = "<string>", overrides: Sequence[str] = (), base: str | Path = ".") -> Config:
    """Read a configuration from a string.

    Args:
        text: YAML.
        name: stands in the errors.
        overrides: as for :func:`load`.
        base: the folder where relative paths start.

    Raises:
        InvalidConfigError: all that is wrong with it, each with its line and column.
    """
    from pipeline.config.reader import read

    return read(Source(name, text), overrides, base=Path(base))


def dump(config: Config) -> str:
    """The configuration as YAML, without defaults; ``loads(dump(x), base=x.base) == x``."""
    return emit(config.to_dict(full=False))
