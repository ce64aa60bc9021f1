"""As much of WebSocket (RFC 6455) as following a log needs: texts from a server."""

from __future__ import annotations

import base64
import codecs
import http.client
import os
import struct
from collections.abc import Callable, Iterator, Mapping

__all__ = ["NoSocketError", "follow"]

_SWITCHED = b"101"
_CONTINUED, _TEXT, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x8, 0x9, 0xA
_CODE, _FIN, _MASKED, _LENGTH = 0x0F, 0x80, 0x80, 0x7F
_LONG, _LONGER = 126, 127  # lengths that say: two, eight bytes of length follow


class NoSocketError(ConnectionError):
    """The server answers, but opens no socket: a proxy that knows none, say."""


def follow(
    connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str], over: Callable[[], bool]
) -> Iterator[str]:
    """The texts that a server sends, until it closes.

    Args:
        connection: not yet used; its timeout is the time between two questions of ``over``.
        path: of the socket.
        headers: to send along.
        over: asked when nothing has come for a while; true ends it. So a connection that a proxy
            dropped without a word is noticed.

    Raises:
        NoSocketError: the server does not open the socket.
        ConnectionError: it breaks off.
    """
    try:
        connection.connect()
        wire = _Wire(connection, over)
        wire.open(path, headers)
        # A message may be cut anywhere, in the middle of a letter too.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while (frame := wire.frame()) is not None:
            code, payload = frame
            if code in {_TEXT, _CONTINUED}:
                yield decoder.decode(payload)
            elif code == _PING:
                wire.send(_PONG, payload)
            elif code == _CLOSE:
                wire.send(_CLOSE, payload)
                return
    except NoSocketError:
        raise
    except OSError as error:
        raise ConnectionError(str(error) or type(error).__name__) from error
    finally:
        connection.close()


class _Wire:
    """Frames off a socket; a timeout in the middle of one loses nothing."""

    def __init__(self, connection: http.client.HTTPConnection, over: Callable[[], bool]) -> None:
        self.host = f"{connection.host}:{connection.port}"
        self.socket = connection.sock
        self.over = over
        self.buffer = bytearray()

    def open(self, path: str, headers: Mapping[str, str]) -> None:
        """Turn the connection into a socket."""
        asked = {
            "Host": self.host,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
            **headers,
        }
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in asked.items()), "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                raise ConnectionError("no answer")
        answer, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        status = [*answer.split(None, 2), b"", b""][1]
        if status != _SWITCHED:
            raise NoSocketError(f"HTTP {status.decode(errors='replace')}" if status else "no HTTP")
        self.buffer = bytearray(rest)

    def frame(self) -> tuple[int, bytes] | None:
        """The next frame's code and content; none where the other side is done."""
        head = self._take(2)
        if head is None:
            return None
        length = head[1] & _LENGTH
        if length in {_LONG, _LONGER}:
            size = self._take(2 if length == _LONG else 8)
            if size is None:
                return None
            length = int.from_bytes(size, "big")
        payload = self._take(length)  # servers do not mask
        return None if payload is None else (head[0] & _CODE, payload)

    def send(self, code: int, payload: bytes) -> None:
        """A short frame to the server; what a client sends must be masked."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self.socket.sendall(struct.pack("!BB", _FIN | code, _MASKED | len(payload)) + mask + masked)

    def _take(self, count: int) -> bytes | None:
        while len(self.buffer) < count:
            if not self._more():
                return None
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def _more(self) -> bool:
        """Wait for some bytes; false where none come because it is over."""
        while True:
            try:
                more = self.socket.recv(1 << 16)
            except TimeoutError:
                if self.over():
                    return False
                continue
            if not more:
                raise ConnectionError("the connection broke off")
            self.buffer += more
            return True
