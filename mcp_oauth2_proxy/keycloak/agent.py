"""The HTTP client towards Keycloak: treq over Twisted's Agent, HTTP/1.1, with a private CA where needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from treq.client import HTTPClient
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

#: Seconds to establish a connection.
CONNECT_TIMEOUT = 5.0
#: Seconds an unused connection is kept. Below the keep-alive of the ingresses Keycloak sits behind.
KEEP_ALIVE = 30
#: Connections kept to one host: logins come in bursts.
MAX_KEPT = 10

_PEM_END = "-----END CERTIFICATE-----"


@implementer(IPolicyForHTTPS)
class TrustPolicy:
    """Whom TLS trusts: the platform's CAs, or exactly those of a PEM file. Names are always checked."""

    def __init__(self, ca_file: str | None = None) -> None:
        self._trust = (
            platformTrust() if ca_file is None else trustRootFromCertificates(_certificates(ca_file))
        )

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        """See :class:`IPolicyForHTTPS`."""
        return optionsForClientTLS(hostname.decode("ascii"), trustRoot=self._trust)


def _certificates(ca_file: str) -> list[Certificate]:
    blocks = Path(ca_file).read_text(encoding="ascii").split(_PEM_END)[:-1]
    return [Certificate.loadPEM((block + _PEM_END).encode()) for block in blocks]


def keycloak_http(reactor: Any, ca_file: str | None = None) -> HTTPClient:
    """Return treq's client for discovery, keys and tokens.

    Redirects are refused at each request: Keycloak's endpoints do not move, and a secret that follows
    a redirect is a secret lost.
    """
    pool = HTTPConnectionPool(reactor)
    pool.cachedConnectionTimeout = KEEP_ALIVE
    pool.maxPersistentPerHost = MAX_KEPT
    return HTTPClient(Agent(reactor, TrustPolicy(ca_file), connectTimeout=CONNECT_TIMEOUT, pool=pool))
