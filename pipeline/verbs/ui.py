"""The web page of a lake: ui."""

from __future__ import annotations

import click

from pipeline.verbs.common import common, emit_json, lake_options, open_lake, say

__all__ = ["ui"]

_GRACE = 5.0  # seconds


@click.command(short_help="Show a lake in the browser.")
@lake_options
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="ADDR", help="The address to listen at."
)
@click.option(
    "--port",
    type=click.IntRange(min=0, max=65535),
    default=8797,
    show_default=True,
    metavar="N",
    help="The port to listen at; 0 takes a free one.",
)
@click.option("--open", "in_browser", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Ask for the token in this file. On other addresses than loopback one is made up otherwise.",
)
@click.option(
    "--allow-host", "names", multiple=True, metavar="NAME", help="A further name of this server. Repeatable."
)
@click.option("--show-content", is_flag=True, help="Show texts, pictures, labels and metadata of records.")
@click.option("--allow-actions", is_flag=True, help="Let the page pause and resume schedules.")
@common
def ui(
    *,
    lake_uri: str | None,
    config: str | None,
    host: str,
    port: int,
    in_browser: bool,
    token_file: str | None,
    names: tuple[str, ...],
    show_content: bool,
    allow_actions: bool,
    as_json: bool,
) -> int:
    """Show runs, lineage, drops, clusters, policies, costs and schedules of a lake in the browser.

    Only this machine can see the page, and nothing can be changed there, unless options say otherwise.
    Control-C ends it.
    """
    import threading
    from urllib.parse import quote

    from pipeline.ui import App, Guard, Server, Site
    from pipeline.ui.guard import is_loopback, new_token

    lake = open_lake(lake_uri, config)
    lake.tables()  # a folder that is no lake is told now, and not by each page
    own = _read_token(token_file) if token_file else None
    token = own or (None if is_loopback(host) else new_token())
    app = App(Site(lake, show_content, allow_actions), Guard.of(host, token, names))
    server = Server(app, host, port)
    warming = threading.Thread(target=app.warm, daemon=True)
    warming.start()
    # A token that the user has is not printed: logs keep what is.
    made_up = token if own is None else None
    address = server.url + (f"?token={quote(made_up)}" if made_up else "")
    if as_json:
        emit_json({"url": server.url, "token": made_up, "lake": str(lake.uri)})
    else:
        say(f"{lake.uri} is at {address}")
        if not is_loopback(host):
            say("it is not encrypted: in networks of others use an SSH tunnel, or a proxy with TLS")
        say("control-C ends it")
    if in_browser:
        _browse(address)
    code = _serve(server)
    warming.join(_GRACE)  # an interpreter that goes away under a thread that loads libraries crashes
    return code


def _serve(server: object) -> int:
    """Answer until control-C or SIGTERM; both are the ordinary end."""
    import signal
    import sys
    import threading

    from pipeline.ui import Server

    assert isinstance(server, Server)  # noqa: S101  (imported late, so that --help stays quick)

    def stop(*_: object) -> None:
        # From a thread of its own: the handler runs in the one that serves.
        threading.Thread(target=server.stop, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    sys.stdout.flush()
    server.run()
    say("ended")
    return 0


def _read_token(path: str) -> str:
    from pathlib import Path

    from lake.errors import InputError

    try:
        found = Path(path).read_text(encoding="utf-8").strip()
        others = Path(path).stat().st_mode & 0o077
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise InputError("the token cannot be read", where=path, why=why) from error
    if others:
        say(f"warning: others may read {path}: chmod 600 it")
    return found


def _browse(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        say("no browser could be started")
