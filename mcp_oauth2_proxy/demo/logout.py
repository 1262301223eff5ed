"""Back-channel logout as Keycloak does it: when a session ends, its clients are told by a logout token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent

from mcp_oauth2_proxy.demo.keys import RealmKeys
from mcp_oauth2_proxy.demo.realm import RealmDefinition
from mcp_oauth2_proxy.demo.sessions import Memory, Randomness, Session
from mcp_oauth2_proxy.demo.tokens import subject

#: Sends a logout token (the second argument) to a client's URL (the first).
Deliver = Callable[[str, str], object]

_EVENT = "http://schemas.openid.net/event/backchannel-logout"
#: Seconds for which a logout token is good, and which a client may take to answer.
_LIFESPAN = 120
_TIMEOUT = 5


class Ending:
    """Ends sessions. ``urls`` says where each client wants to hear of it."""

    def __init__(
        self,
        realm: RealmDefinition,
        keys: RealmKeys,
        memory: Memory,
        randomness: Randomness,
        deliver: Deliver,
    ) -> None:
        self.urls = {one.client_id: one.logout_url for one in realm.clients if one.logout_url is not None}
        self._realm = realm
        self._keys = keys
        self._memory = memory
        self._randomness = randomness
        self._deliver = deliver

    def end(self, session: Session, *, issuer: str, now: float) -> None:
        """Log the user out everywhere, and tell every client that has a share of the session."""
        self._memory.end_session(session)
        for client_id in session.clients:
            url = self.urls.get(client_id)
            if url is not None:
                self._deliver(url, self._token(session, client_id, issuer, int(now)))

    def _token(self, session: Session, client_id: str, issuer: str, now: int) -> str:
        claims = {
            "exp": now + _LIFESPAN,
            "iat": now,
            "jti": self._randomness.uuid(),
            "iss": issuer,
            "aud": client_id,
            "sub": subject(self._realm, session.user),
            "typ": "Logout",
            "sid": session.sid,
            "events": {_EVENT: {}},
        }
        return self._keys.sign(claims, typ="logout+jwt")


class Delivery:
    """A :data:`Deliver` over the network; what cannot be delivered is logged and not tried again."""

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._http = HTTPClient(Agent(reactor))
        self._under_way: set[Deferred[None]] = set()

    def __call__(self, url: str, logout_token: str) -> None:
        """Send the token; nobody waits for it."""
        sending = Deferred.fromCoroutine(self._send(url, logout_token))
        self._under_way.add(sending)
        sending.addErrback(self._failed, url)
        sending.addBoth(lambda _: self._under_way.discard(sending))

    def _failed(self, failure: Failure, url: str) -> None:
        self._log.warn("a logout did not reach {url}: {why}", url=url, why=failure.getErrorMessage())

    async def _send(self, url: str, logout_token: str) -> None:
        answer = await self._http.post(
            url, data={"logout_token": logout_token}, timeout=_TIMEOUT, reactor=self._reactor
        )
        await answer.content()
        if answer.code != 200:
            self._log.warn("the client at {url} answered a logout with {code}", url=url, code=answer.code)
