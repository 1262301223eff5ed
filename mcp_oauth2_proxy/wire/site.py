"""The factory of client connections: the Resource tree, the limits and what is under way."""

from __future__ import annotations

import os
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.web.resource import IResource
from twisted.web.server import Site

from mcp_oauth2_proxy.wire.admission import Admission
from mcp_oauth2_proxy.wire.answers import TOO_MANY_CONNECTIONS, TurnedAway
from mcp_oauth2_proxy.wire.channel import ServerChannel
from mcp_oauth2_proxy.wire.deadline import Deadlines
from mcp_oauth2_proxy.wire.limits import Limits
from mcp_oauth2_proxy.wire.request import StreamingRequest

#: Seconds between two lines about connections that were refused.
REPORT_PAUSE = 10.0
#: Request ids that are made at a time.
_IDS_AT_ONCE = 256


def request_ids(random: Callable[[int], bytes]) -> Callable[[], str]:
    """Return a function that gives 16 hexadecimal digits at a time; the system is asked for many at once."""
    left: list[str] = []

    def one() -> str:
        if not left:
            digits = random(8 * _IDS_AT_ONCE).hex()
            left.extend(digits[start : start + 16] for start in range(0, len(digits), 16))
        return left.pop()

    return one


class WireSite(Site):
    """A ``twisted.web`` site on this wire.

    ``on_done`` hears of every request exactly once, finished or lost. ``new_request_id`` gives each
    its reference, which the log and the error pages share. ``many_behind`` says which addresses are
    proxies, behind which everybody is.
    """

    _log = Logger()
    displayTracebacks = False
    #: That a socket is listened on is told by who listens.
    noisy = False

    def __init__(
        self,
        resource: IResource,
        *,
        reactor: Any,
        limits: Limits = Limits(),  # noqa: B008 (immutable)
        on_done: Callable[[StreamingRequest], None] | None = None,
        new_request_id: Callable[[], str] | None = None,
        many_behind: Callable[[str], bool] = lambda _host: False,
    ) -> None:
        super().__init__(resource, reactor=reactor)
        self.reactor = reactor
        self.limits = limits
        self.deadlines = Deadlines(reactor)
        self.new_request_id = new_request_id or request_ids(os.urandom)
        self.connections: set[ServerChannel] = set()
        self.active_requests = 0
        self.draining = False
        self._on_done = on_done
        self._admission = Admission(limits, many_behind)
        self._turned_away = 0
        self._next_report = 0.0
        self._date = (0, b"")

    def startFactory(self) -> None:
        """Nothing to start: the date is made when it is needed, the log is not the factory's."""

    def stopFactory(self) -> None:
        """Nothing to stop."""

    def buildProtocol(self, addr: IAddress | None) -> Protocol:  # type: ignore[override]
        """Return the channel for a new connection, or what tells it that it is one too many."""
        host = getattr(addr, "host", "")
        refusal = self._admission.enter(host)
        if refusal is not None:
            self._report(refusal)
            return TurnedAway()
        return ServerChannel(self, host)

    def left(self, channel: ServerChannel, host: str) -> None:
        """A connection has ended."""
        if channel in self.connections:
            self.connections.discard(channel)
            self._admission.leave(host)

    def _report(self, refusal: str) -> None:
        """Log refused connections, one line for many: a flood must not fill the disk."""
        self._turned_away += 1
        now = self.reactor.seconds()
        if now >= self._next_report:
            self._next_report = now + REPORT_PAUSE
            self._log.warn(
                "refused {count} connections since the last such line: {refusal}",
                count=self._turned_away,
                refusal=refusal,
                reason=TOO_MANY_CONNECTIONS,
            )
            self._turned_away = 0

    def date(self) -> bytes:
        """Return the Date header's value, made once a second."""
        now = int(self.reactor.seconds())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode("ascii"))
        return self._date[1]

    def request_began(self, _request: StreamingRequest) -> None:
        """A request has been read up to the end of its head."""
        self.active_requests += 1

    def request_ended(self, request: StreamingRequest) -> None:
        """A request has been answered, or its client has gone."""
        self.active_requests -= 1
        if self._on_done is not None:
            self._on_done(request)

    def drain(self) -> None:
        """From now on every answer is its connection's last; idle connections have a moment."""
        self.draining = True
        for channel in list(self.connections):
            channel.drain()

    def abort_all(self) -> None:
        """Cut what is left."""
        for channel in list(self.connections):
            channel.abort()
