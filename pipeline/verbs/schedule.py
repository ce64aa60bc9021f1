"""Runs at fixed times: schedule start, list, next, history, pause, resume, backfill, stop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from pipeline.verbs import schedules
from pipeline.verbs.common import common, config_argument, emit_json, lake_options, open_lake, say, sets
from pipeline.verbs.schedules import named

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from lake import Lake
    from pipeline.schedule.book import Event, Standing
    from pipeline.schedule.daemon import Stop
    from pipeline.schedule.spec import Schedule

__all__ = ["schedule"]


class _Group(click.Group):
    """Takes ``schedule CONFIG --cron ...`` for ``schedule start CONFIG --cron ...``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in where none is named."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            if not args[0].startswith("-") and not os.path.exists(args[0]):  # noqa: PTH110  (pathlib costs its import)
                import difflib

                close = difflib.get_close_matches(args[0], self.commands, n=1)
                if close:
                    raise click.UsageError(f"There is no command {args[0]!r}. Did you mean {close[0]!r}?", ctx)
            args = ["start", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group, short_help="Run at fixed times.")
def schedule() -> None:
    """Run a pipeline at fixed times. `schedule CONFIG --cron ...` is `schedule start CONFIG --cron ...`.

    Fire times are recorded in the lake, so that each is decided once, whoever dies and however many serve it.
    """


def _seconds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A duration in seconds."""
    if value is None:
        return None
    from pipeline.schedule.spec import duration

    try:
        return duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, parameter) from error


@schedule.command(short_help="Serve a schedule until stopped.")
@config_argument
@click.option(
    "--cron", metavar="EXPR", help='When: "0 2 * * *", or @daily and so on. Else as it is in the lake.'
)
@click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="Of the cron expression.")
@click.option("--name", metavar="NAME", help="Of the schedule. Default: the pipeline's.")
@click.option("--jitter", callback=_seconds, default="0s", metavar="TIME", help="Spread starts over it.")
@click.option("--max-run-time", callback=_seconds, metavar="TIME", help="Stop an attempt that takes longer.")
@click.option(
    "--retries", type=click.IntRange(0, 100), default=2, show_default=True, metavar="N", help="After a failure."
)
@click.option(
    "--backoff",
    callback=_seconds,
    default="1m",
    show_default=True,
    metavar="TIME",
    help="Before a retry.",
)
@click.option(
    "--catch-up",
    type=click.Choice(["latest", "all", "none"]),
    default="latest",
    show_default=True,
    help="Which fires run that were missed.",
)
@click.option(
    "--catch-up-limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="Of all."
)
@click.option(
    "--overlap",
    type=click.Choice(["skip", "wait"]),
    default="skip",
    show_default=True,
    help="What becomes of a fire during a run.",
)
@click.option("--maintain", is_flag=True, help="Look after the lake at the end of each run.")
@sets
@click.option("--address", metavar="ADDR", help="Run on Ray: as of `run`, or http://HOST:8265 to submit a job.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Parallel workers. Default: one per core."
)
@click.option(
    "--grace",
    callback=_seconds,
    default="1m",
    show_default=True,
    metavar="TIME",
    help="What a run gets to end in when the scheduler is stopped.",
)
@click.option(
    "--poll",
    callback=_seconds,
    default="15s",
    show_default=True,
    metavar="TIME",
    help="Between two looks at the lake.",
)
@click.option("--once", is_flag=True, help="Do what is due now, and exit.")
@common
def start(*, config: str, grace: float, poll: float, once: bool, as_json: bool, **options: Any) -> int:
    """Serve a schedule: write it into the lake, then run the pipeline at its times until stopped.

    Without --cron the schedule is that of the lake. SIGTERM or Control-C: nothing new starts, the run that is
    going on has --grace to end; else it is stopped, and the next scheduler goes on with it.
    """
    from pathlib import Path

    from lake import Lake
    from pipeline.config import load
    from pipeline.schedule.book import now
    from pipeline.schedule.daemon import Daemon, Stop, ahead_of

    # What depends on the fire's time cannot be known yet; the lake must not.
    loaded = load(config, [each for each in options["overrides"] if "{fire" not in each])
    lake = Lake(loaded.lake)
    name = options["name"] or loaded.name
    spec = _declared(lake, name, str(Path(config).absolute()), options)
    known = load(config, spec.overrides_at(now()))  # a mistake is told now, not at night
    if spec.address and spec.address.startswith(("http://", "https://")):
        from pipeline.jobs.client import Cluster
        from pipeline.jobs.parcel import Options, prepare
        from pipeline.jobs.tokens import token_of

        Cluster.at(spec.address, token_of())
        prepare(known, Options(workers=spec.workers))
    _check_clock(ahead_of(lake))
    stop, failed = Stop(), [False]

    def tell(event: Event) -> None:
        failed[0] = failed[0] or event.state == "failed"
        if as_json:
            _line(name, event)

    daemon = Daemon(
        lake,
        name,
        Path(config).absolute(),
        grace=grace,
        poll=max(0.1, poll),
        stop=stop,
        ahead=lambda: ahead_of(lake),
        tell=tell,
    )
    _log_to_stderr()
    signalled = _handle_signals(stop)
    state = _register(lake, spec)
    say(f"schedule {name}: {spec.cron} ({spec.timezone}), in {lake.uri}")
    if state == "paused":
        say(f"it is paused: nothing starts before `gristmill schedule resume {name}`")
    daemon.run(once=once)
    if signalled and signalled[0] == "SIGINT":
        return 130
    return int(once and failed[0])


def _declared(lake: Lake, name: str, config: str, options: dict[str, Any]) -> Schedule:
    """The schedule that the options name; without ``--cron`` the one that is there."""
    from lake.errors import ConfigError
    from pipeline.schedule import book
    from pipeline.schedule.spec import Schedule

    if options["cron"] is not None:
        from pydantic import ValidationError

        given = {key: value for key, value in options.items() if key != "name" and value is not None}
        try:
            return Schedule(name=name, config=config, **given)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(each) for each in first["loc"])
            raise ConfigError(f"{where}: {first['msg']}", where="gristmill schedule") from error
    ctx = click.get_current_context()
    current = book.standing(lake, name)
    if current is None:
        raise click.UsageError(
            f'There is no schedule {name!r} in {lake.uri} yet: give --cron "0 2 * * *".', ctx
        )
    explicit = [
        parameter.opts[0]
        for parameter in (ctx.command.params)
        if parameter.name in options
        and parameter.name != "name"
        and ctx.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    ]
    if explicit:
        raise click.UsageError(f"{explicit[0]} is part of a schedule: give --cron too.", ctx)
    return current.spec


def _register(lake: Lake, spec: Schedule) -> str:
    from pipeline.schedule import book, control

    return control.register(lake, spec, book.now()).state


def _check_clock(ahead: float) -> None:
    from lake.errors import GristmillError
    from pipeline.schedule.daemon import MOST_AHEAD
    from pipeline.schedule.spec import words

    if ahead > MOST_AHEAD:
        raise GristmillError(
            f"this machine's clock is {words(round(ahead))} ahead of the lake's",
            why="fires would come too early",
            hint="set the clock right (NTP)",
        )
    if ahead < -MOST_AHEAD:
        say(f"warning: this machine's clock is {words(round(-ahead))} behind the lake's: its fires come late")


def _handle_signals(stop: Stop) -> list[str]:
    """SIGTERM and Control-C ask for an end, the second one at once; the names of those that came are kept."""
    import signal

    came: list[str] = []

    def ask(number: int, _frame: object) -> None:
        came.append(signal.Signals(number).name)
        stop.now = stop.asked
        stop.asked = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return came


def _log_to_stderr() -> None:
    """A scheduler tells of each fire without being asked to."""
    import logging

    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("pipeline.schedule").setLevel(logging.INFO)


def _line(name: str, event: Event) -> None:
    import json
    from dataclasses import asdict

    from pipeline.verbs.common import plain

    fields = {
        key: value
        for key, value in asdict(event).items()
        if key not in {"text", "seq", "by"} and value is not None
    }
    click.echo(json.dumps({"schedule": name, **fields}, default=plain))


# Looking and steering


for _command in (schedules.list_, schedules.next_, schedules.history):
    schedule.add_command(_command)


def _steering(verb: str, short: str, long: str, told: str) -> Callable[..., None]:
    """A command that changes the state of a schedule."""

    @schedule.command(name=verb, short_help=short, help=long)
    @click.argument("name", metavar="[NAME]", required=False)
    @lake_options
    @common
    def steer(*, name: str | None, lake_uri: str | None, config: str | None, as_json: bool) -> None:
        from pipeline.schedule import book, control

        lake = open_lake(lake_uri, config)
        change: Callable[[Lake, str, datetime], Standing] = getattr(control, verb)
        changed = change(lake, named(lake, name), book.now())
        if as_json:
            emit_json({"schedule": changed.spec.name, "state": changed.state})
        else:
            say(f"{changed.spec.name}: {told}")

    return steer


_steering(
    "pause",
    "Start no fire until resumed.",
    "Start no fire until `schedule resume`. A run that is going on ends as usual.",
    "paused",
)
_steering(
    "resume",
    "Fire again after a pause.",
    "Fire again after a pause. Fires that fell into it are recorded as skipped; see `schedule backfill`.",
    "active",
)
_steering(
    "stop",
    "End the schedulers of a schedule.",
    "End the schedulers of a schedule, wherever they run; a run that is going on ends as usual. "
    "`schedule start` starts it again.",
    "stopped; its schedulers end at their next look at the lake",
)


@schedule.command(short_help="Run the fires of a range that have not run.")
@click.argument("span", metavar="FROM..TO")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--again", is_flag=True, help="Those too that have run.")
@lake_options
@common
def backfill(
    *, span: str, name: str | None, again: bool, lake_uri: str | None, config: str | None, as_json: bool
) -> None:
    """Queue the fire times of a range that have not run: 2026-03-01..2026-03-07, both included, or one date.

    A scheduler runs them, the oldest first, whenever no other fire is due.
    """
    from pipeline.schedule import book, control

    lake = open_lake(lake_uri, config)
    standing = control.known(lake, named(lake, name))
    first, dots, last = span.partition("..")
    try:
        begin = control.instant(first, standing.spec.timezone)
        end = control.instant(last if dots else first, standing.spec.timezone, end=True)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    done = control.backfill(lake, standing.spec.name, begin, end, book.now(), again=again)
    if as_json:
        emit_json({"queued": list(done.queued), "left_out": list(done.left_out)})
        return
    left = f"{len(done.left_out)} left out (run, or still due)"
    say(f"{standing.spec.name}: {len(done.queued)} fires queued, {left}")
