"""Open event streams, and what ends them before the upstream does: an expired token, or the process's stop.

A stream is let in once, by a token of minutes, and may last for days. So it is judged again, by time alone:
``gate.streamGrace`` after its token has expired it ends, and its client comes back with a new one. Clients
that are quicker are not made to wait: where the same MCP session listens again with a good token, its stream
of an expired one ends at once, for many MCP servers refuse a second listener while they see the first.
Where the operator wants it Keycloak has its say too (:mod:`~mcp_oauth2_proxy.relay.rechecks`).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mcp_oauth2_proxy.relay.reasons import Reason
from mcp_oauth2_proxy.relay.rechecks import Rechecks

if TYPE_CHECKING:
    from mcp_oauth2_proxy.relay.exchange import Exchange

#: Seconds between two looks at which tokens have expired.
LOOK_EVERY = 1.0
#: Seconds without an event after which a listening stream counts as idle while the proxy drains.
QUIET = 1.0


class Streams:
    """The exchanges whose answers are event streams; ``grace`` (seconds) is what they may outlive tokens.

    With ``rechecks`` Keycloak is asked about them.
    """

    def __init__(self, clock: IReactorTime, grace: float, rechecks: Rechecks | None = None) -> None:
        #: Whether Keycloak is asked about open streams: then their tokens are needed for as long.
        self.asks = rechecks is not None
        self._clock = clock
        self._grace = grace
        self._rechecks = rechecks
        self._open: set[Exchange] = set()
        #: Answers to calls that have begun since the last look: most are over within a moment.
        self._new: set[Exchange] = set()
        self._listeners: dict[Hashable, set[Exchange]] = {}
        self._next_look: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._open)

    def start(self) -> None:
        """End streams in time from now on."""
        self._next_look = self._clock.callLater(LOOK_EVERY, self._look)

    def stop(self) -> None:
        """Leave nothing on the clock."""
        if self._next_look is not None and self._next_look.active():
            self._next_look.cancel()

    def opened(self, exchange: Exchange) -> None:
        """Take in a stream that has begun."""
        self._open.add(exchange)
        if exchange.idle_since() is None:
            self._new.add(exchange)
        else:
            exchange.settle()
        if self._rechecks is not None:
            self._rechecks.opened(exchange, self._clock.seconds())
        if exchange.listener is not None:
            self._listeners.setdefault(exchange.listener, set()).add(exchange)

    def closed(self, exchange: Exchange) -> None:
        """Forget a stream, if it was one."""
        self._open.discard(exchange)
        self._new.discard(exchange)
        if self._rechecks is not None:
            self._rechecks.closed(exchange)
        listeners = self._listeners.get(exchange.listener)
        if listeners is not None:
            listeners.discard(exchange)
            if not listeners:
                del self._listeners[exchange.listener]

    def make_way(self, listener: Hashable) -> None:
        """End the streams of ``listener``, who comes with a good token, that were opened by expired ones."""
        now = self._clock.seconds()
        for exchange in tuple(self._listeners.get(listener, ())):
            if exchange.identity.expires_at <= now:
                exchange.end(Reason.STREAM_EXPIRED)

    def end_idle(self) -> None:
        """End the listening streams that have been quiet, each cleanly: the process is stopping."""
        quiet_since = self._clock.seconds() - QUIET
        for exchange in tuple(self._open):
            last = exchange.idle_since()
            if last is not None and last <= quiet_since:
                exchange.end()

    def _look(self) -> None:
        self.start()
        now = self._clock.seconds()
        for exchange in self._new:
            exchange.settle()
        self._new.clear()
        for exchange in [one for one in self._open if one.identity.expires_at <= now - self._grace]:
            exchange.end(Reason.STREAM_EXPIRED)
        if self._rechecks is not None:
            self._rechecks.look(now)
