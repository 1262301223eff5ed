"""What the operating system is asked for on every connection, on either side."""

from __future__ import annotations

import socket
from typing import Any

#: Seconds after which a peer that acknowledges nothing is taken for gone: a quiet one is asked after
#: 60 s and then every 15 s (keep-alive), one that we send to has as long (``TCP_USER_TIMEOUT``, RFC 5482).
VANISHED = 120
_OPTIONS = tuple(
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (
        ("TCP_NODELAY", 1),
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPINTVL", 15),
        ("TCP_KEEPCNT", (VANISHED - 60) // 15),
        ("TCP_USER_TIMEOUT", VANISHED * 1000),
    )
    if hasattr(socket, name)
)


def tune(transport: Any) -> None:
    """Send small writes at once, and notice a peer that has vanished without a word."""
    connection = getattr(transport, "socket", None)
    if not isinstance(connection, socket.socket) or connection.family not in (
        socket.AF_INET,
        socket.AF_INET6,
    ):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for level, option, value in _OPTIONS:
        connection.setsockopt(level, option, value)
