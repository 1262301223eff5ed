"""A site whose connections end with it: browsers keep theirs open, and trial wants none left."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.resource import IResource
from twisted.web.server import Site


class ClosingSite(WrappingFactory):
    """Serves ``resource`` on ports that :meth:`close` closes together with what is connected to them."""

    noisy = False

    def __init__(self, resource: IResource, reactor: Any) -> None:
        super().__init__(Site(resource, reactor=reactor))
        self._reactor = reactor
        self._ports: list[Any] = []
        self._empty: Deferred[None] | None = None

    def listen(self, certificate: Any = None) -> int:
        """Listen on 127.0.0.1, with TLS where there is a certificate, and return the port."""
        if certificate is None:
            port = self._reactor.listenTCP(0, self, interface="127.0.0.1")
        else:
            # Browsers negotiate a protocol (ALPN) and take silence for a broken handshake.
            options = CertificateOptions(
                privateKey=certificate.privateKey.original,
                certificate=certificate.original,
                acceptableProtocols=[b"http/1.1"],
            )
            port = self._reactor.listenSSL(0, self, options, interface="127.0.0.1")
        self._ports.append(port)
        number: int = port.getHost().port
        return number

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        """One connection less."""
        super().unregisterProtocol(p)
        if self._empty is not None and not self.protocols:
            waiting, self._empty = self._empty, None
            waiting.callback(None)

    def close(self) -> Deferred[Any]:
        """Stop listening and hang up."""
        stopped = [port.stopListening() for port in self._ports]
        gone: Deferred[None] = succeed(None)
        if self.protocols:
            gone = self._empty = Deferred()
            for wrapper in list(self.protocols):
                wrapper.transport.abortConnection()
        return DeferredList([one for one in (*stopped, gone) if one is not None])
