"""The HTTP client towards Keycloak: treq over Twisted's Agent, HTTP/1.1, with a private CA where needed."""

from __future__ import annotations

from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.web.client import Agent, HTTPConnectionPool

from mcp_oauth2_proxy.wire.trust import TrustPolicy

#: Seconds to establish a connection.
CONNECT_TIMEOUT = 5.0
#: Seconds an unused connection is kept. Below the keep-alive of the ingresses Keycloak sits behind: a token
#: request that meets a connection just closed fails, since only requests without a body are sent again.
KEEP_ALIVE = 30
#: Connections kept to one host: logins come in bursts.
MAX_KEPT = 10


class KeycloakClient(HTTPClient):
    """treq's client, with an end to its connections."""

    def __init__(self, reactor: Any, ca_file: str | None) -> None:
        self._pool = HTTPConnectionPool(reactor)
        self._pool.cachedConnectionTimeout = KEEP_ALIVE
        self._pool.maxPersistentPerHost = MAX_KEPT
        super().__init__(
            Agent(reactor, TrustPolicy(ca_file), connectTimeout=CONNECT_TIMEOUT, pool=self._pool)
        )

    def close(self) -> Deferred[None]:
        """Close the connections that are kept for the next request."""
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed


def keycloak_http(reactor: Any, ca_file: str | None = None) -> KeycloakClient:
    """Return treq's client for discovery, keys and tokens.

    Redirects are refused at each request: Keycloak's endpoints do not move, and a secret that follows
    a redirect is a secret lost.

    :raises ValueError: ``ca_file`` holds no certificate.
    """
    return KeycloakClient(reactor, ca_file)
