"""Who is let in."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError
from pipeline.ui.guard import Forbidden, Guard, is_loopback, new_token
from pipeline.ui.messages import Request

TOKEN = "correct-horse-battery-staple"
OPEN = Guard.of("127.0.0.1", None)
SHUT = Guard.of("0.0.0.0", TOKEN, ["lake.example"])


def ask(guard: Guard, path: str = "/", host: str = "localhost:8797", query=None, **headers: str):
    return guard.admit(Request("GET", path, query or {}, {"host": host, **headers}))


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:1", "LOCALHOST:8797", "127.0.0.1", "127.0.0.1:9", "[::1]:8797", "localhost.:80"],
)
def test_loopback_is_let_in(host: str) -> None:
    assert ask(OPEN, host=host) is None


@pytest.mark.parametrize(
    "host",
    [
        *("", " ", "evil.example", "evil.example:8797", "localhost.evil.example", "127.0.0.1.evil.example"),
        *(
            "192.168.1.7:8797",
            "0.0.0.0:8797",
            "user@localhost@evil",
            "[::1",
            "127.0.0.1:x@evil.example",
            "2130706433",
        ),
    ],
)
def test_other_names_are_turned_away(host: str) -> None:
    with pytest.raises(Forbidden) as told:
        ask(OPEN, host=host)
    assert told.value.status == 421


@given(st.text(max_size=40))
def test_no_other_name_gets_in(host: str) -> None:
    try:
        ask(OPEN, host=host)
    except Forbidden:
        return
    name = re.sub(r":\d*$", "", host.rpartition("@")[2]).strip("[]").rstrip(".").lower()
    assert is_loopback(re.split("[/?#]", name)[0].partition("%")[0]), host


def test_an_address_of_this_machine_needs_the_token_too() -> None:
    for host in ("192.168.1.7:8797", "lake.example", "LAKE.example:443"):
        with pytest.raises(Forbidden) as told:
            ask(SHUT, host=host)
        assert told.value.status == 401
    with pytest.raises(Forbidden) as told:
        ask(SHUT, host="evil.example", query={"token": TOKEN})
    assert told.value.status == 421


def test_the_token_is_taken_once_and_then_the_cookie() -> None:
    answer = ask(SHUT, "/drops", query={"token": TOKEN, "rule": "a b&c"})
    assert answer is not None
    assert answer.status == 303
    assert answer.headers["Location"] == "/drops?rule=a+b%26c"
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    assert ask(SHUT, cookie=cookie.partition(";")[0]) is None
    # Another start with the same token knows the cookie; one with another token does not.
    assert ask(Guard.of("0.0.0.0", TOKEN), cookie=cookie.partition(";")[0]) is None
    with pytest.raises(Forbidden):
        ask(Guard.of("0.0.0.0", new_token()), cookie=cookie.partition(";")[0])


def test_the_redirect_stays_here() -> None:
    for path in ("//evil.example/x", "/\\evil.example", "/a\r\nX: y"):
        answer = ask(SHUT, path, query={"token": TOKEN})
        assert answer is not None
        where = answer.headers["Location"]
        assert where.startswith("/")
        assert not where.startswith(("//", "/\\"))
        assert "\n" not in where


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
        {"cookie": f"gristmill={TOKEN}"},
        {"cookie": "gristmill="},
        {"cookie": "gristmill=\xff\ud800"},
        {"cookie": "\x00;;=;"},
    ],
)
def test_nobody_else_gets_in(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden) as told:
        ask(SHUT, **headers)
    assert told.value.status == 401


def test_programs_send_a_header_and_probes_need_none() -> None:
    assert ask(SHUT, authorization=f"Bearer {TOKEN}") is None
    assert ask(SHUT, "/healthz") is None
    with pytest.raises(Forbidden):
        ask(SHUT, query={"token": "wrong"})
    with pytest.raises(Forbidden):
        ask(SHUT, query={"token": "ÄÖ" * 20})


def test_no_open_door_by_mistake() -> None:
    with pytest.raises(ConfigError):
        Guard.of("0.0.0.0", None)
    with pytest.raises(ConfigError):
        Guard.of("192.168.1.7", None)
    with pytest.raises(ConfigError):
        Guard.of("127.0.0.1", "short")
    assert TOKEN not in repr(SHUT)
    assert len(new_token()) >= 40


def test_changes_need_the_token_of_the_form_and_the_same_origin() -> None:
    def change(csrf: str, **headers: str) -> None:
        OPEN.allow_change(Request("POST", "/", {}, {"host": "localhost:8797", **headers}, {"csrf": csrf}))

    change(OPEN.csrf)
    change(OPEN.csrf, origin="http://localhost:8797")
    for csrf, headers in (
        ("", {}),
        (Guard.of("127.0.0.1", None).csrf, {}),
        (OPEN.csrf, {"origin": "http://evil.example"}),
        (OPEN.csrf, {"origin": "null"}),
        (OPEN.csrf, {"origin": "http://localhost:1"}),
    ):
        with pytest.raises(Forbidden) as told:
            change(csrf, **headers)
        assert told.value.status == 403
