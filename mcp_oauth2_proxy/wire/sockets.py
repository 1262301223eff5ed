"""What the operating system is asked for on every connection, on either side."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from twisted.internet.abstract import FileDescriptor

#: Seconds after which a peer that acknowledges nothing is taken for gone: a quiet one is asked after
#: 60 s and then every 15 s (keep-alive), one that we send to has as long (``TCP_USER_TIMEOUT``, RFC 5482).
VANISHED = 120
_QUIET, _AGAIN = 60, 15
#: Where the system cannot tell an end behind unread bytes (Linux can), a reset is still told.
_ENDS = getattr(select, "POLLRDHUP", 0)


@lru_cache
def _options(quiet: int, again: int, vanished: int) -> tuple[tuple[int, int, int], ...]:
    """Return what ``setsockopt`` is given, as far as the system has it."""
    wanted = (
        ("TCP_NODELAY", 1),
        ("TCP_KEEPIDLE", quiet),
        ("TCP_KEEPINTVL", again),
        ("TCP_KEEPCNT", (vanished - quiet) // again),
        ("TCP_USER_TIMEOUT", vanished * 1000),
    )
    tcp = [
        (socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in wanted if hasattr(socket, name)
    ]
    return (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *tcp


def tune(transport: Any, quiet: int = _QUIET, again: int = _AGAIN, vanished: int = VANISHED) -> None:
    """Send small writes at once, and notice a peer that has vanished without a word.

    After ``vanished`` seconds it has; a ``quiet`` one is asked after so many, and ``again`` after so many.
    """
    connection = _socket(transport)
    if connection is not None:
        tune_socket(connection, quiet, again, vanished)


def tune_socket(
    connection: socket.socket, quiet: int = _QUIET, again: int = _AGAIN, vanished: int = VANISHED
) -> None:
    """Do so for a socket. One that listens hands it on to what it accepts, where the system does (Linux).

    Then there is nothing left to do for these: the option that is set last is there.
    """
    options = _options(quiet, again, vanished)
    level, last, value = options[-1]
    try:
        if connection.getsockopt(level, last) != value:
            for level, option, value in options:
                connection.setsockopt(level, option, value)
    except OSError:
        return  # it is no TCP, and needs none of this; or it has just been reset


def arrivals(transport: Any) -> Callable[[], bool]:
    """Return a function that says whether anything has arrived at ``transport`` that is still unread.

    The peer's end counts, and its reset. Under TLS that is about the bytes below it. What lives in
    memory has never anything unread.
    """
    connection = _socket(transport)
    if connection is None:
        return lambda: False
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    # Errors are always told. 0 ms: this is a question, nobody waits.
    return lambda: bool(poll.poll(0))


def ended(transport: Any) -> bool:
    """Return whether the peer has closed or reset the connection, though what it sent before is unread."""
    connection = _socket(transport)
    if connection is None:
        return False
    poll = select.poll()
    poll.register(connection, _ENDS)
    return bool(poll.poll(0))


def unsent(transport: Any) -> bytes:
    """Return what was written to ``transport`` and never reached the operating system.

    Nothing where that is unknown, as under TLS, whose records are not what was written.
    """
    if not isinstance(transport, FileDescriptor):
        return b""
    # Twisted has no question for it: these two are its send buffer, in this order.
    return transport.dataBuffer[transport.offset :] + b"".join(transport._tempDataBuffer)


def _socket(transport: Any) -> socket.socket | None:
    connection = getattr(transport, "socket", None)
    return connection if isinstance(connection, socket.socket) else None
