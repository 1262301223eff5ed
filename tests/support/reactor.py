"""The one place where tests take the global reactor: those that need real sockets."""

from __future__ import annotations

from typing import Any


def global_reactor() -> Any:
    """Return the reactor that trial runs on."""
    from twisted.internet import reactor  # noqa: PLC0415 (importing it earlier would choose one)

    return reactor
