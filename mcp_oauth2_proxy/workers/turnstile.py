"""Who accepts the next connection, so that every worker has its share.

Facts: a connection that arrives wakes every worker that waits for one, and whoever is first takes it. With
Twisted's port, which then takes all that are there, one of two workers got 31 of 32 connections that came at
once, and kept them: MCP clients stay connected. One at a time makes it a fair race only on an idle machine
(18 to 14; in a burst still 31 to 1). So a worker that is clearly ahead steps back for a moment.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.tcp import Port

from mcp_oauth2_proxy.wire.transports import ServerTransport

#: Seconds for which a worker leaves new connections to those who have fewer: many times what a worker that
#: is awake needs, and too little for a client to notice.
STEP_BACK = 0.005
#: Connections that it takes when nobody else has: the others may be busy, or hang.
AT_ONCE = 4


def is_ahead(mine: int, others: Iterable[int]) -> bool:
    """Return whether a worker with ``mine`` connections has clearly more than the one with the fewest.

    ``others`` are their numbers, negative for those who take none. Clearly is more than one and an eighth.
    """
    least = min((count for count in others if count >= 0), default=mine)
    return mine - least > 1 + least // 8


class Counts:
    """How many connections each worker has: memory that all of them see, a number each.

    Nothing is locked: each writes its own number, in one machine word, and one that is a moment old is good
    enough.
    """

    def __init__(self, descriptor: int, workers: int) -> None:
        self._memory = mmap.mmap(descriptor, 8 * workers)
        self._counts = memoryview(self._memory).cast("q")

    @classmethod
    def create(cls, workers: int) -> tuple[Counts, int]:
        """Return new ones, in which nobody takes connections, and the descriptor to hand on."""
        descriptor = _anonymous_file()
        os.ftruncate(descriptor, 8 * workers)
        counts = cls(descriptor, workers)
        for number in range(1, workers + 1):
            counts.leave(number)
        return counts, descriptor

    def tell(self, number: int, connections: int) -> None:
        """The worker ``number``, from 1, has so many, and takes more."""
        self._counts[number - 1] = connections

    def leave(self, number: int) -> None:
        """It takes no more."""
        self._counts[number - 1] = -1

    def others(self, number: int) -> list[int]:
        """Return the numbers of all but one."""
        return [count for place, count in enumerate(self._counts, 1) if place != number]


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("connections")
    with tempfile.TemporaryFile() as file:  # where it is not Linux
        return os.dup(file.fileno())


class SharedPort(Port):
    """A listening socket that other processes accept from as well.

    ``ahead()`` says whether this process should leave the next connection to them.
    """

    transport = ServerTransport
    reactor: Any
    ahead: Callable[[], bool]
    _resuming: IDelayedCall | None = None
    _stepped_back = False

    @classmethod
    def adopt(
        cls, reactor: Any, descriptor: int, family: int, factory: Any, ahead: Callable[[], bool]
    ) -> SharedPort:
        """Return a port that listens on a copy of ``descriptor``."""
        port: SharedPort = cls._fromListeningDescriptor(reactor, descriptor, family, factory)
        port.ahead = ahead
        port.startListening()
        return port

    def doRead(self) -> None:
        """Accept what is there, unless others should."""
        if self._stepped_back:
            self._stepped_back = False
            self.numberAccepts = AT_ONCE
        elif self.ahead():
            self._stepped_back = True
            self.stopReading()
            self._resuming = self.reactor.callLater(STEP_BACK, self.startReading)
            return
        else:
            self.numberAccepts = 1
        super().doRead()

    def connectionLost(self, reason: Any) -> None:
        """See :class:`Port`."""
        if self._resuming is not None and self._resuming.active():
            self._resuming.cancel()
        super().connectionLost(reason)
