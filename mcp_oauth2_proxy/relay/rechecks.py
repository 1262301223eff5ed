"""Open event streams, asked about again and again where Keycloak has the last word (``gate.introspect``)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mcp_oauth2_proxy.gate.model import Refusal
from mcp_oauth2_proxy.gate.rules import LEEWAY
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable

if TYPE_CHECKING:
    from mcp_oauth2_proxy.relay.exchange import Exchange

#: Streams asked about at one look, of which there is one a second: others wait for the next one, for they
#: should not stand in the way of requests.
AT_ONCE = 50


class Rechecks:
    """The streams that are open, and when Keycloak is to be asked about each again: after ``every`` seconds.

    ``ask`` returns why a stream's token is inactive, or ``None``. Where Keycloak does not answer a stream
    stays: it was let in. So it does when its token expires, which to Keycloak is inactive too: what follows
    is a matter of ``gate.streamGrace``.
    """

    _log = Logger()

    def __init__(self, ask: Callable[[Exchange], Deferred[Refusal | None]], *, every: float) -> None:
        self._ask = ask
        self._every = every
        # All wait equally long, so the first is the next.
        self._due: OrderedDict[Exchange, float] = OrderedDict()

    def opened(self, exchange: Exchange, now: float) -> None:
        """Take in a stream whose token has just been asked about."""
        self._due[exchange] = now + self._every

    def closed(self, exchange: Exchange) -> None:
        """Forget a stream, if it was one."""
        self._due.pop(exchange, None)

    def look(self, now: float) -> None:
        """Ask about the streams that are due, and end those whose tokens turn out to be inactive."""
        for exchange, due in tuple(islice(self._due.items(), AT_ONCE)):
            if due > now:
                break
            if exchange.identity.expires_at <= now + LEEWAY:
                del self._due[exchange]
                continue
            self._due[exchange] = now + self._every
            self._due.move_to_end(exchange)
            self._ask(exchange).addCallbacks(
                self._answered, self._failed, callbackArgs=(exchange,)
            ).addErrback(self._failed)

    def _answered(self, refusal: Refusal | None, exchange: Exchange) -> None:
        if refusal is not None:
            exchange.end(refusal.reason)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(KeycloakUnavailable):
            self._log.failure("asking Keycloak about a stream failed", failure)
