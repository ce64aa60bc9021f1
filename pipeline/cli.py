"""The ``gristmill`` command.

Only click is imported here and in ``pipeline.verbs``: everything else waits until a verb needs it, so
that ``gristmill --help`` answers at once.
"""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from pipeline.verbs import (
    author,
    care,
    dedup,
    forget,
    maintain,
    metrics,
    preview,
    render,
    runs,
    schedule,
    size,
    submit,
    tables,
    ui,
)

__all__ = ["cli", "main"]

_EPILOG = """\b
Exit codes
    0  done
    1  failed
    2  the configuration or the command line is wrong
    3  finished, with more unreadable rows than the configuration allows
    4  `plan --detailed-exitcode`: there is work to do
  130  interrupted; the same command goes on where it stopped

\b
Data goes to stdout, everything else to stderr. NO_COLOR is honoured.
"""


class Front(click.Group):
    """The group of all verbs: turns every error into a message and an exit code."""

    def main(  # type: ignore[override]  # click's overloads promise NoReturn or a value; this always exits
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        **extra: Any,
    ) -> NoReturn:
        """Run, report, exit."""
        arguments = list(sys.argv[1:] if args is None else args)
        told = _Teller(arguments)
        extra["standalone_mode"] = False
        if os.environ.get("NO_COLOR"):
            extra["color"] = False
        try:
            code = super().main(arguments, prog_name or "gristmill", **extra)
            sys.stdout.flush()
        except BrokenPipeError:
            _close_stdout()
            code = 0
        except click.ClickException as error:
            code = told.usage(error)
        except (click.Abort, KeyboardInterrupt):
            code = told.interrupted()
        except Exception as error:  # noqa: BLE001  (the border of the process: nothing may pass as a traceback)
            code = told.hidden() if isinstance(error, ImportError) else None
            code = told.failed(error) if code is None else code
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; a reader that has gone away is not an error."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _close_stdout()
            return 0

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """The verbs in the order in which one meets them."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Click's, with a did-you-mean."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], self.commands, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"There is no verb {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


class _Teller:
    """Says what went wrong: in words on stderr, or as JSON on stdout."""

    def __init__(self, arguments: Sequence[str]) -> None:
        plain = arguments[: arguments.index("--")] if "--" in arguments else arguments
        self.json = "--json" in plain
        self.verbose = any(each == "--verbose" or each.rstrip("v") == "-" for each in plain if each != "-")

    def usage(self, error: click.ClickException) -> int:
        """The command line is wrong."""
        if self.json:
            self._json({"kind": type(error).__name__, "message": error.format_message()}, error.exit_code)
        else:
            error.show()
        return error.exit_code

    def interrupted(self) -> int:
        """Control-C."""
        from lake.errors import ExitCode

        if self.json:
            self._json({"kind": "Interrupted", "message": "interrupted"}, ExitCode.INTERRUPTED)
        click.echo("\ninterrupted: the same command goes on where it stopped", err=True)
        return ExitCode.INTERRUPTED

    def hidden(self) -> int | None:
        """Something could not be imported: tell it where other folders of our names hide our packages."""
        from pipeline.doctor import hidden

        check = hidden()
        if check is None:
            return None
        # Without `lake.errors`, which may be what is hidden.
        if self.json:
            self._json({"kind": "HiddenPackage", "message": check.detail, "hint": check.hint}, 1)
        else:
            self._error(str(check).removeprefix("fail").lstrip())
        return 1

    def failed(self, error: Exception) -> int:
        """An error that a user can act on, or one that is ours."""
        from lake.errors import ExitCode, GristmillError

        if self.verbose:
            import traceback

            click.echo("".join(traceback.format_exception(error)), err=True)
        code = error.exit_code if isinstance(error, GristmillError) else ExitCode.FAILED
        if self.json:
            self._json(_described(error), code)
        elif isinstance(error, GristmillError):
            self._error(str(error))
        elif isinstance(error, OSError) and error.filename:
            self._error(f"{error.filename}: {error.strerror}")
        else:
            # The text of a foreign error may quote a record: its kind is shown, its text with --verbose.
            click.echo(
                f"internal error: {type(error).__name__} (this is a bug in Gristmill or in a plugin; "
                f"the same command with --verbose shows where)",
                err=True,
            )
        return code

    @staticmethod
    def _error(text: str) -> None:
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        click.echo(f"{'error:' if plain else click.style('error:', fg='red', bold=True)} {text}", err=True)

    @staticmethod
    def _json(error: dict[str, object], code: int) -> None:
        import json

        click.echo(json.dumps({"error": error, "exit_code": int(code)}))


def _described(error: Exception) -> dict[str, object]:
    from lake.errors import GristmillError

    if not isinstance(error, GristmillError):
        return {"kind": "InternalError", "message": f"internal error: {type(error).__name__}"}
    described: dict[str, object] = {
        "kind": type(error).__name__,
        "message": error.what,
        "where": error.where,
        "why": error.why,
        "hint": error.hint,
    }
    problems = getattr(error, "errors", ())
    if problems:
        described["errors"] = [problem.to_dict() for problem in problems]
    return described


def _close_stdout() -> None:
    """Let what is still buffered go nowhere, or the interpreter complains when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is not a file (a test's buffer): nothing to do
        pass
    finally:
        os.close(nowhere)


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from pipeline import __version__

        click.echo(f"gristmill {__version__}")
        ctx.exit()


@click.group(
    cls=Front,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version", is_flag=True, callback=_version, expose_value=False, is_eager=True, help="Show the version."
)
def cli() -> None:
    """Raw files in; a deduplicated, augmented, versioned training set out.

    Begin with `gristmill init`, look with `gristmill plan`, do it with `gristmill run`.
    """


for _verb in (
    author.init,
    author.check,
    runs.plan,
    preview.preview,
    runs.run,
    submit.submit,
    submit.jobs,
    runs.report,
    metrics.metrics,
    schedule.schedule,
    render.render,
    tables.show,
    tables.why,
    tables.history,
    ui.ui,
    author.ops,
    author.schema,
    dedup.dedup,
    forget.forget,
    maintain.maintain,
    size.size,
    care.doctor,
    care.completion,
):
    cli.add_command(_verb)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script. SIGTERM, which schedulers send, ends it as control-C does: locks are given back."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    atexit.register(gc.freeze)  # or the collector goes through all modules once more, to free what ends anyway
    cli.main(arguments)
