"""Runs on a Ray cluster as jobs: submit, and jobs status, logs, stop, list."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.verbs.common import common, config_argument, emit_json, say, sets

if TYPE_CHECKING:
    from pipeline.doctor import Check
    from pipeline.jobs import Cluster, Job

__all__ = ["jobs", "submit"]

F = TypeVar("F", bound=Callable[..., Any])


def cluster_options(function: F) -> F:
    """``--address`` and ``--token-file``: which cluster, and its token."""
    function = click.option(
        "--token-file",
        type=click.Path(),
        metavar="FILE",
        help="Holds the token of the cluster. Default: $RAY_AUTH_TOKEN, then the file $RAY_AUTH_TOKEN_PATH.",
    )(function)
    return click.option(
        "--address",
        metavar="URL",
        envvar="RAY_API_SERVER_ADDRESS",
        required=True,
        help="Of the cluster's dashboard: http://head:8265. Default: $RAY_API_SERVER_ADDRESS.",
    )(function)


@click.command(short_help="Run it as a job on a Ray cluster.")
@config_argument
@cluster_options
@sets
@click.option(
    "--once", metavar="KEY", help="Not again where a job with this KEY, such as a date, has succeeded."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="As for `gristmill run`: a trial.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Most tasks at a time.")
@click.option(
    "--autoscaling/--no-autoscaling",
    default=None,
    help="Whether the cluster adds nodes when more is asked for. Default: ask it.",
)
@click.option("--shared-filesystem", is_flag=True, help="Local paths mean the same on every node as here.")
@click.option(
    "--ship",
    multiple=True,
    type=click.Path(),
    metavar="PATH",
    help="Take this Python file or folder along. Plugins go along by themselves. Repeatable.",
)
@click.option(
    "--env",
    multiple=True,
    metavar="NAME",
    help="Give this variable of yours to the job; its value stands in no log. Repeatable.",
)
@click.option(
    "--runtime-env", type=click.Path(), metavar="FILE", help="More of Ray's runtime environment (YAML or JSON)."
)
@click.option("--install", is_flag=True, help="Let the cluster install what it lacks, by pip.")
@click.option("--python", default="python", show_default=True, metavar="CMD", help="Starts Python on the head.")
@click.option(
    "--driver-cpus", type=click.FloatRange(min=0), default=0.0, metavar="N", help="Cores for the driver."
)
@click.option("--driver-memory", metavar="SIZE", help="Memory for the driver, such as 8GiB.")
@click.option("--no-wait", is_flag=True, help="Submit, and leave.")
@click.option(
    "--preflight-only", is_flag=True, help="Only say whether the cluster is fit; exits with 1 if not."
)
@click.option("--preflight/--no-preflight", default=True, help="Ask the cluster first whether it is fit.")
@click.option("--strict", is_flag=True, help="Let warnings of the preflight fail too.")
@click.option(
    "--preflight-timeout", type=click.FloatRange(min=1), default=180.0, show_default=True, metavar="SECONDS",
    help="How long the preflight may take.",
)  # fmt: skip
@common
def submit(
    *,
    config: str,
    address: str,
    token_file: str | None,
    runtime_env: str | None,
    driver_memory: str | None,
    preflight_timeout: float,
    no_wait: bool,
    preflight_only: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Run CONFIG as a job on a Ray cluster, show its log, and exit as `gristmill run` does.

    Ctrl-C leaves the job alone. The same command again shows the log of the running job; once it has ended,
    it starts the next one.
    """
    from pipeline import jobs
    from pipeline.jobs.tokens import token_of

    chosen = {
        **options,
        "runtime_env": _runtime_env(runtime_env),
        "driver_memory": _size(driver_memory),
        "patience": preflight_timeout,
    }
    token = token_of(token_file)
    if preflight_only:
        return _fit(jobs.check(config, address, token, **chosen), as_json=as_json, strict=chosen["strict"])
    found: list[Check] = []

    def told(checks: list[Check]) -> None:
        found.extend(checks)
        for check in checks:
            if check.status != "ok":
                say(str(check))

    job = jobs.submit(config, address, token, told=told, **chosen)
    return _follow(job, found, wait=not no_wait, as_json=as_json)


def _follow(job: Job, checks: list[Check], *, wait: bool, as_json: bool) -> int:
    from lake.errors import ExitCode
    from pipeline.jobs.job import explained

    record = job.record()
    how = "has run already" if record.over and job.attached else "runs already" if job.attached else "submitted"
    say(f"{how}: {job.id}")
    code: int | None = None
    try:
        if wait and not record.over:
            for text in job.logs(follow=True):
                click.echo(text, nl=False, err=as_json)
        if wait or record.over:
            code = job.wait()
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
        say(
            f"\ndetached: the job goes on. The same command attaches again;\n"
            f"  gristmill jobs stop {job.id} --address {job.cluster.address}"
        )
    record = job.record() if code != ExitCode.INTERRUPTED else record
    if code is not None and (why := explained(record)):
        say(why)
    if as_json:
        emit_json(
            {
                "job": job.id,
                "attached": job.attached,
                "status": record.status,
                "exit_code": code,
                "checks": [check.to_dict() for check in checks],
            }
        )
    return int(code or 0)


def _fit(checks: list[Check], *, as_json: bool, strict: bool) -> int:
    bad = {"fail", "warn"} if strict else {"fail"}
    fit = all(check.status not in bad for check in checks)
    if as_json:
        emit_json({"fit": fit, "checks": [check.to_dict() for check in checks]})
    else:
        for check in checks:
            click.echo(str(check))
    return 0 if fit else 1


@click.group(short_help="Status, logs and end of jobs on a cluster.")
def jobs() -> None:
    """Look after the jobs that `gristmill submit` has started."""


@jobs.command(name="list")
@cluster_options
@click.option("--all", "everything", is_flag=True, help="Those of others too.")
@common
def list_(*, address: str, token_file: str | None, everything: bool, as_json: bool) -> None:
    """List the jobs of Gristmill that the cluster remembers, the oldest first."""
    records = [
        record
        for record in _cluster(address, token_file).jobs()
        if everything or "gristmill" in record.metadata
    ]
    if as_json:
        emit_json([record.to_dict() for record in records])
        return
    for record in records:
        code = "" if record.exit_code is None else f"exit {record.exit_code}"
        click.echo(f"{record.status:<9}  {_time(record.started)}  {record.id}  {code}".rstrip())


@jobs.command()
@click.argument("job_id", metavar="ID")
@cluster_options
@common
def status(*, job_id: str, address: str, token_file: str | None, as_json: bool) -> None:
    """Show what has become of job ID."""
    record = _job(job_id, address, token_file).record()
    if as_json:
        emit_json(record.to_dict())
    else:
        code = "" if record.exit_code is None else f", exit code {record.exit_code}"
        click.echo(f"{record.status}{code}: {record.message}")


@jobs.command()
@click.argument("job_id", metavar="ID")
@cluster_options
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@common
def logs(*, job_id: str, address: str, token_file: str | None, follow: bool, as_json: bool) -> None:
    """Show what job ID has printed."""
    job = _job(job_id, address, token_file)
    job.record()
    if as_json:
        emit_json({"job": job.id, "log": "".join(job.logs(follow=follow))})
        return
    for text in job.logs(follow=follow):
        click.echo(text, nl=False)


@jobs.command()
@click.argument("job_id", metavar="ID")
@cluster_options
@common
def stop(*, job_id: str, address: str, token_file: str | None, as_json: bool) -> None:
    """Ask job ID to end. What it has done stays; submitted again, the run goes on from there."""
    stopped = _job(job_id, address, token_file).stop()
    if as_json:
        emit_json({"job": job_id, "stopped": stopped})
    else:
        say(f"{job_id}: {'asked to stop' if stopped else 'has ended already'}")


def _job(job_id: str, address: str, token_file: str | None) -> Job:
    from pipeline.jobs import Job

    return Job(_cluster(address, token_file), job_id)


def _cluster(address: str, token_file: str | None) -> Cluster:
    from pipeline.jobs import Cluster
    from pipeline.jobs.tokens import token_of

    return Cluster.at(address, token_of(token_file))


def _runtime_env(name: str | None) -> dict[str, Any]:
    """A runtime environment from a file, with lists of requirements that it names read in.

    Raises:
        ConfigError: it cannot be read, or is no mapping.
    """
    if name is None:
        return {}
    from pathlib import Path

    import yaml

    from lake.errors import ConfigError

    path = Path(name)
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ConfigError("no runtime environment: a mapping is wanted", where=name)
        for key in ("pip", "uv"):
            if isinstance(found.get(key), str):  # Ray would look for the file on the head
                lines = (path.parent / found[key]).read_text(encoding="utf-8").splitlines()
                found[key] = [
                    line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")
                ]
        if isinstance(found.get("conda"), str) and found["conda"].endswith((".yml", ".yaml")):
            found["conda"] = yaml.safe_load((path.parent / found["conda"]).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("cannot be read", where=error.filename or name, why=error.strerror) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("is no YAML", where=name, why=str(error).splitlines()[0]) from error
    return found


def _size(text: str | None) -> int:
    if text is None:
        return 0
    from lake.errors import ConfigError
    from pipeline.config.resources import size

    try:
        return size(text)
    except ValueError as error:
        raise ConfigError(str(error), where=f"--driver-memory {text}") from error


def _time(seconds: float | None) -> str:
    from datetime import datetime

    return (
        "-" * 19
        if seconds is None
        else datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")[:19]
    )
