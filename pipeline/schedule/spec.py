"""A schedule as a value, and how its parts are written on a command line."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lake.errors import ConfigError
from pipeline.config.model import InvalidConfigError
from pipeline.config.strictyaml import Scalar, Source

__all__ = ["CatchUp", "Overlap", "Schedule", "duration", "standard", "words", "zone"]

CatchUp = Literal["latest", "all", "none"]
Overlap = Literal["skip", "wait"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)([smhd]))+\Z")
_PIECE = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIRE = re.compile(r"\{fire(?::([^{}]*))?\}")
_FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
_EXAMPLE = 'write it as in --cron "0 2 * * *": minute, hour, day of month, month, day of week'

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Schedule(BaseModel):
    """When a pipeline runs, and what happens to fires that come late, overlap or fail.

    >>> Schedule(name="nightly", cron="@daily", timezone="Europe/Berlin").cron
    '0 0 * * *'

    Raises:
        InvalidConfigError: the cron expression is wrong, or names no time at all; with the column.
        ConfigError: there is no such time zone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Its name in the lake.")
    cron: str = Field(
        description="Five fields: minute, hour, day of month, month, day of week; or @daily and so on."
    )
    timezone: str = Field("UTC", description="IANA name of the time zone that the fields are read in.")
    jitter: Seconds = Field(
        0, description="Each fire starts up to so many seconds late: always the same for one fire."
    )
    max_run_time: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Seconds after which an attempt is stopped, and counts as failed."
    )
    retries: Annotated[int, Field(ge=0, le=100)] = Field(2, description="Further attempts after a failed one.")
    backoff: Seconds = Field(
        60, description="Seconds before the first retry; each further one waits twice as long."
    )
    backoff_limit: Seconds = Field(3600, description="The longest wait before a retry, in seconds.")
    catch_up: CatchUp = Field("latest", description="Which late fires run: the latest, all of them, or none.")
    catch_up_limit: Annotated[int, Field(ge=1)] = Field(
        100, description="With catch_up all: so many late fires at most, the newest ones."
    )
    late_after: Annotated[float, Field(gt=0)] = Field(
        60, description="With catch_up none: seconds after which a fire is too late to run."
    )
    overlap: Overlap = Field("skip", description="A fire that falls due during a run is skipped, or waits.")
    maintain: bool = Field(default=False, description="Look after the lake at the end of each run.")
    config: str = Field(description="The configuration file.", default="gristmill.yaml")
    overrides: tuple[str, ...] = Field(
        (), description="Changes of the configuration; {fire:%Y-%m-%d} stands for the fire's time."
    )
    address: str | None = Field(None, description="The Ray cluster that runs it; this machine if None.")
    workers: Annotated[int, Field(ge=1)] | None = Field(None, description="Parallel workers.")

    @field_validator("cron")
    @classmethod
    def _fires_at_all(cls, value: str) -> str:
        return standard(value)

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        zone(value)
        return value

    def delay(self, fire: datetime) -> float:
        """Seconds from the fire time to the start: evenly spread below ``jitter``, the same on any machine."""
        text = f"{self.name}\n{int(fire.timestamp())}".encode()
        share = int.from_bytes(hashlib.blake2b(text, digest_size=6, person=b"gristmill-jit").digest()) / 2**48
        return share * self.jitter

    def due(self, fire: datetime) -> datetime:
        """When the fire is to start."""
        return fire + timedelta(seconds=self.delay(fire)) if self.jitter else fire

    def pause_before(self, attempt: int) -> float:
        """Seconds between the end of attempt ``attempt - 1`` and the start of ``attempt`` (2 or more)."""
        return float(min(self.backoff * 2.0 ** min(attempt - 2, 40), self.backoff_limit))

    def overrides_at(self, fire: datetime) -> tuple[str, ...]:
        """The overrides with the fire's time, in the schedule's time zone, in place of ``{fire:FORMAT}``.

        >>> from datetime import UTC
        >>> spec = Schedule(name="a", cron="@daily", overrides=("source.paths=in/{fire:%Y-%m-%d}/*",))
        >>> spec.overrides_at(datetime(2026, 3, 1, tzinfo=UTC))
        ('source.paths=in/2026-03-01/*',)
        """
        local = fire.astimezone(zone(self.timezone))
        return tuple(
            _FIRE.sub(lambda found: local.strftime(found[1] or "%Y-%m-%dT%H:%M:%S%z"), each)
            for each in self.overrides
        )

    def with_timing_of(self, other: Schedule) -> bool:
        """Whether both name the same fire times."""
        return (self.cron, self.timezone) == (other.cron, other.timezone)


@cache
def zone(name: str) -> ZoneInfo:
    """A time zone.

    Raises:
        ConfigError: there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"there is no time zone {name!r}",
            where="--timezone",
            hint="use an IANA name such as Europe/Berlin; where the system has none: pip install tzdata",
        ) from error


def standard(expression: str) -> str:
    """A cron expression in five fields, which names at least one time.

    >>> standard("@hourly")
    '0 * * * *'

    Raises:
        InvalidConfigError: a field is wrong, or the fields exclude each other; with line and column.
    """
    from cronsim import CronSim, CronSimError

    source = Source("--cron", expression)
    text = _MACROS.get(expression.strip().lower(), expression)
    fields = list(re.finditer(r"\S+", text))
    if len(fields) != len(_FIELDS):
        count = f"{len(fields)} field{'' if len(fields) == 1 else 's'}"
        raise _wrong(
            source, 0, max(1, len(expression)), f"a cron expression has five fields, not {count}", _EXAMPLE
        )
    for number, (name, found) in enumerate(zip(_FIELDS, fields, strict=True)):
        alone = ["*"] * len(_FIELDS)
        alone[number] = found.group()
        try:
            CronSim(" ".join(alone), _SOME_DAY)
        except CronSimError as error:
            message = f"{found.group()!r} is no {name}"
            raise _wrong(source, found.start(), len(found.group()), message, _hint(name)) from error
    try:
        next(CronSim(text, _SOME_DAY))
    except (CronSimError, StopIteration, OverflowError) as error:
        day, month = fields[2], fields[3]
        message = f"never fires: no year has day-of-month {day.group()!r} in month {month.group()!r}"
        width = month.end() - day.start()
        raise _wrong(source, day.start(), width, message, "the last day of a month is L") from error
    return " ".join(found.group() for found in fields)


_SOME_DAY = datetime(2024, 1, 1)  # noqa: DTZ001  (wall-clock time without a zone)
_RANGES = (
    "0 to 59",
    "0 to 23",
    "1 to 31, or L for the last",
    "1 to 12, or JAN to DEC",
    "0 to 7, or SUN to SAT",
)


def _hint(name: str) -> str:
    return f"{name} is {_RANGES[_FIELDS.index(name)]}; also *, 1-5, 1,3 and */2"


def _wrong(source: Source, start: int, width: int, message: str, hint: str) -> InvalidConfigError:
    place = Scalar(source, 1, start + 1, width, source.text, source.text)
    return InvalidConfigError([place.problem(message, hint=hint)])


def duration(text: str) -> float:
    """Seconds of ``90s``, ``15m``, ``2h``, ``1d``, ``1h30m``; a bare number is seconds.

    >>> duration("1h30m"), duration("45")
    (5400.0, 45.0)

    Raises:
        ValueError: it is something else.
    """
    plain = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", plain):
        return float(plain)
    if not _DURATION.match(plain):
        msg = f"{text!r} is no duration: write 90s, 15m, 2h, 1d or 1h30m"
        raise ValueError(msg)
    return sum(float(number) * _UNITS[unit] for number, unit in _PIECE.findall(plain))


def words(seconds: float) -> str:
    """A duration as people write it.

    >>> words(5400), words(0.5), words(90000)
    ('1h30m', '0.5s', '1d1h')
    """
    if seconds < 1 or seconds != int(seconds):
        return f"{seconds:g}s"
    left, parts = int(seconds), []
    for unit in ("d", "h", "m", "s"):
        number, left = divmod(left, _UNITS[unit])
        parts += [f"{number}{unit}"] if number else []
    return "".join(parts) or "0s"
