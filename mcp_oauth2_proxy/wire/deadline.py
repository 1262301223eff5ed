"""Points in time after which something has taken too long: several for each connection."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

#: Outdated entries that are not worth the effort of sorting out the others.
_FEW = 16


def _nobody() -> None:
    """Nobody waits any more."""


class Deadlines:
    """Keeps many deadlines with one timer of the reactor, which is there only while one of them is.

    A deadline has an entry for a time that is never later than its own. One that was moved on or cleared
    is looked at again only when the time of its entry has come.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self.seconds = clock.seconds
        self._clock = clock
        #: When, in which order of those at one time, and whose. A heap (:mod:`heapq`).
        self._entries: list[tuple[float, int, Deadline]] = []
        self._order = count()
        #: How many entries are a deadline's present one.
        self._present = 0
        self._timer: IDelayedCall | None = None
        self._wakes_at = 0.0

    def enter(self, deadline: Deadline, at: float) -> None:
        """Look at ``deadline`` again when it is ``at``, and not at the time of its entry, if it has one."""
        self._present += not deadline.looked_at
        deadline.looked_at = at
        heappush(self._entries, (at, next(self._order), deadline))
        self._wake_by(at)
        self._tidy()

    def leave(self, deadline: Deadline) -> None:
        """Do not look at ``deadline`` any more."""
        if deadline.looked_at:
            deadline.looked_at = 0.0
            self._present -= 1
            self._tidy()

    def _wake_by(self, at: float) -> None:
        if self._timer is not None:
            if self._wakes_at <= at:
                return
            self._timer.cancel()
        self._wakes_at = at
        self._timer = self._clock.callLater(max(0.0, at - self.seconds()), self._wake)

    def _tidy(self) -> None:
        """Forget outdated entries once they are most, and the timer where nothing is left."""
        if not self._present:
            self._entries.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif len(self._entries) > 2 * self._present + _FEW:
            self._entries = [entry for entry in self._entries if entry[2].looked_at == entry[0]]
            heapify(self._entries)

    def _wake(self) -> None:
        self._timer = None
        now = self.seconds()
        over = []
        while self._entries:
            at, _, deadline = self._entries[0]
            if at == deadline.looked_at == deadline.at and at > now:
                self._wake_by(at)
                break
            heappop(self._entries)
            if at != deadline.looked_at:
                continue
            if deadline.at > now:
                self.enter(deadline, deadline.at)
                continue
            if deadline.at:
                over.append(deadline)
            self.leave(deadline)
        for deadline in over:
            try:
                deadline.expire()
            except Exception:
                self._log.failure("while a deadline's end was told")


class Deadline:
    """A timer that is moved on with every request and byte, so moving it costs next to nothing."""

    __slots__ = ("_deadlines", "_expired", "at", "looked_at")

    def __init__(self, deadlines: Deadlines, expired: Callable[[], None]) -> None:
        self._deadlines = deadlines
        self._expired = expired
        #: When it expires; 0 for never.
        self.at = 0.0
        #: When it is looked at: see :class:`Deadlines`.
        self.looked_at = 0.0

    def set(self, seconds: float) -> None:
        """Expire in ``seconds`` from now, whatever was set before; 0 means never."""
        if not seconds:
            self.at = 0.0
            return
        at = self.at = self._deadlines.seconds() + seconds
        if not 0 < self.looked_at <= at:
            self._deadlines.enter(self, at)

    def clear(self) -> None:
        """Do not expire."""
        self.at = 0.0

    def stop(self) -> None:
        """Never expire any more, leave nothing behind in the reactor, and forget who would have been told."""
        self.at = 0.0
        self._expired = _nobody
        self._deadlines.leave(self)

    def expire(self) -> None:
        """Tell that it has, unless it has been moved on."""
        if 0 < self.at <= self._deadlines.seconds():
            self.at = 0.0
            self._expired()
