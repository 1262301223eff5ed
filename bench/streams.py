"""Many event streams, open at once and quiet: what an MCP server's listeners are most of the time."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.errors import WrongAnswer
from bench.traffic import FIRST_EVENT, STREAM_PATH

#: Seconds for a stream to bring its first event, which means that it is open all the way through.
_TIMEOUT = 20.0
#: Streams from one address.
A_SOURCE = 4000
#: Most bytes of a head and the first event.
_MOST = 65_536


def request(token: str) -> bytes:
    """Return the request that opens a stream."""
    return (
        b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nAuthorization: Bearer %s\r\n\r\n"
    ) % (STREAM_PATH, token.encode())


def check_opening(received: bytes) -> bool:
    """Return whether the head and the first event are there; False means: not yet.

    :raises WrongAnswer: it is not an event stream.
    """
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return False
    status = head.split(b"\r\n", 1)[0]
    if b" 200 " not in status + b" " or b"text/event-stream" not in head.lower():
        raise WrongAnswer(f"not an event stream: {status.decode('latin-1')}")
    return FIRST_EVENT in body


def _open(port: int, opening: bytes, number: int) -> socket.socket:
    # Few come from one address, for which the proxy has a limit of its own.
    source = f"127.0.0.{2 + number // A_SOURCE}"
    stream = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT, source_address=(source, 0))
    stream.sendall(opening)
    received = b""
    while not check_opening(received):
        data = stream.recv(_MOST)
        if not data or len(received) > _MOST:
            stream.close()
            raise WrongAnswer("a stream ended before its first event")
        received += data
    return stream


@contextmanager
def open_streams(port: int, token: str, count: int) -> Iterator[list[socket.socket]]:
    """Open ``count`` streams and keep them; each has brought its first event.

    :raises WrongAnswer: one of them did not, or had ended before the block was left.
    """
    opening = request(token)
    with ExitStack() as stack:
        opened = [stack.enter_context(_open(port, opening, number)) for number in range(count)]
        yield opened
        for stream in opened:
            stream.setblocking(False)
            try:
                ended = stream.recv(_MOST) == b""
            except BlockingIOError:
                continue
            if ended:
                raise WrongAnswer("a stream ended by itself")
