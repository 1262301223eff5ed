"""One point in time after which something has taken too long."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


def _nobody() -> None:
    """Nobody waits any more."""


class Deadline:
    """A timer that is moved on with every request and byte, so moving it must cost nothing.

    Setting it stores a number; the reactor's timer is left where it is and, when it fires too early,
    is set again for what remains.
    """

    __slots__ = ("_at", "_clock", "_expired", "_fires_at", "_timer")

    def __init__(self, clock: IReactorTime, expired: Callable[[], None]) -> None:
        self._clock = clock
        self._expired = expired
        self._at = self._fires_at = 0.0
        self._timer: IDelayedCall | None = None

    def set(self, seconds: float) -> None:
        """Expire in ``seconds`` from now, whatever was set before; 0 means never."""
        if not seconds:
            self._at = 0.0
            return
        at = self._at = self._clock.seconds() + seconds
        if self._timer is not None:
            if self._fires_at <= at:
                return
            # Moving it forward would search the reactor's whole list of timers.
            self._timer.cancel()
        self._start(seconds, at)

    def clear(self) -> None:
        """Do not expire."""
        self._at = 0.0

    def stop(self) -> None:
        """Never expire any more, leave nothing behind in the reactor, and forget who would have been told."""
        self._at = 0.0
        self._expired = _nobody
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, seconds: float, at: float) -> None:
        self._fires_at = at
        self._timer = self._clock.callLater(seconds, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if not self._at:
            return
        remaining = self._at - self._clock.seconds()
        if remaining > 0:
            self._start(remaining, self._at)
            return
        self._at = 0.0
        self._expired()
