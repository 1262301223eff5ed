"""The one place where tests take the global reactor: those that need real sockets."""

from __future__ import annotations

from typing import Any

from zope.interface import directlyProvides, providedBy


def global_reactor() -> Any:
    """Return the reactor that trial runs on."""
    from twisted.internet import reactor  # noqa: PLC0415 (importing it earlier would choose one)

    return reactor


class LaterReactor:
    """The global reactor in all but the time: it is later, by as much as :meth:`pass_time` has made it.

    What waits for the clock waits as long as ever; what compares times sees that they have passed.
    """

    def __init__(self) -> None:
        self._reactor = global_reactor()
        self._passed = 0.0
        directlyProvides(self, providedBy(self._reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def pass_time(self, seconds: float) -> None:
        """Make it later."""
        self._passed += seconds

    def seconds(self) -> float:
        """Return the time, in seconds since the epoch."""
        now: float = self._reactor.seconds()
        return now + self._passed
