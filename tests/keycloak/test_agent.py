"""The real client towards Keycloak, over loopback sockets: TLS, big answers, connections let go."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.iweb import IPolicyForHTTPS
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface.verify import verifyObject

from mcp_oauth2_proxy.keycloak.agent import keycloak_http
from mcp_oauth2_proxy.keycloak.http import MAX_BODY, KeycloakHTTP
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable
from mcp_oauth2_proxy.wire.trust import TrustPolicy
from tests.support.certificates import private_ca
from tests.support.reactor import global_reactor


class Answers(Resource):
    """``/ok`` answers JSON, ``/endless`` never stops, ``/cut`` breaks off."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.left: Deferred[None] = Deferred()

    def render(self, request: Request) -> bytes | int:
        """Answer one request."""
        if request.path == b"/ok":
            return json.dumps({"form": request.content.read().decode()}).encode()
        if request.path == b"/redirect":
            request.redirect(b"/ok")
            return b"{}"
        request.notifyFinish().addErrback(lambda _: self.left.callback(None))
        request.write(b"{" + b" " * (MAX_BODY if request.path == b"/endless" else 5))
        if request.path == b"/endless":
            request.write(b" " * 10)
        else:
            request.transport.abortConnection()
        return NOT_DONE_YET


class Sockets(TestCase):
    """Over real connections."""

    timeout = 20

    def setUp(self) -> None:
        self.answers = Answers()
        self.directory = Path(tempfile.mkdtemp())
        self.reactor = global_reactor()

    def serve(self, certificate: PrivateCertificate | None = None) -> str:
        site = Site(self.answers)
        if certificate is None:
            port = self.reactor.listenTCP(0, site, interface="127.0.0.1")
        else:
            port = self.reactor.listenSSL(0, site, certificate.options(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"{'http' if certificate is None else 'https'}://localhost:{port.getHost().port}"

    def client(self, ca: bytes | None = None) -> KeycloakHTTP:
        ca_file = None
        if ca is not None:
            path = self.directory / "ca.pem"
            path.write_bytes(ca)
            ca_file = str(path)
        client = KeycloakHTTP(keycloak_http(self.reactor, ca_file), self.reactor)
        self.addCleanup(client.close)
        return client

    async def refused(self, exchange: Any) -> str:
        try:
            await exchange
        except KeycloakUnavailable as error:
            return str(error)
        raise AssertionError("the exchange succeeded")

    async def test_plain(self) -> None:
        """Forms and documents go over plain HTTP inside a cluster."""
        url = self.serve()
        client = self.client()
        answer = await client.post(f"{url}/ok", {"a": "b c&d", "ü": "%"})
        self.assertEqual((answer.status, answer.body), (200, {"form": "a=b+c%26d&%C3%BC=%25"}))
        self.assertEqual((await client.get(f"{url}/ok")).status, 200)

    async def test_redirect_is_not_followed(self) -> None:
        """A redirect is an answer like any other: the client's secret goes nowhere else."""
        answer = await self.client().post(f"{self.serve()}/redirect", {"client_secret": "s"})
        self.assertEqual(answer.status, 302)

    async def test_private_ca(self) -> None:
        """With ``auth.caFile`` a Keycloak behind a company's own CA is trusted."""
        pem, certificate = private_ca()
        other, _ = private_ca("Another CA")
        answer = await self.client("# die übliche CA\n".encode() + other + pem).get(
            f"{self.serve(certificate)}/ok"
        )
        self.assertEqual(answer.status, 200)

    async def test_unknown_ca(self) -> None:
        """Without it, or with another CA, the connection is refused, and the message says why."""
        _, certificate = private_ca()
        other, _ = private_ca("Another CA")
        url = self.serve(certificate)
        for ca in (None, other):
            message = await self.refused(self.client(ca).get(f"{url}/ok"))
            self.assertIn("TLS failed (certificate verify failed)", message)

    async def test_wrong_name(self) -> None:
        """A certificate for another host is refused, even by a trusted CA; the message says which it is."""
        pem, certificate = private_ca(host="other.example")
        message = await self.refused(self.client(pem).get(f"{self.serve(certificate)}/ok"))
        self.assertIn("the certificate is for another host", message)

    async def test_nobody_listens(self) -> None:
        """A refused connection is told apart from a refused certificate."""
        port = self.reactor.listenTCP(0, Site(self.answers), interface="127.0.0.1")
        url = f"http://127.0.0.1:{port.getHost().port}/ok"
        await port.stopListening()
        self.assertIn("cannot connect", await self.refused(self.client().get(url)))

    async def test_endless_answer(self) -> None:
        """An answer without end is cut at 1 MiB, and its connection closed."""
        message = await self.refused(self.client().get(f"{self.serve()}/endless"))
        self.assertIn("larger than", message)
        await self.answers.left

    async def test_cut_answer(self) -> None:
        """An answer that breaks off is not taken for a whole one."""
        message = await self.refused(self.client().get(f"{self.serve()}/cut"))
        self.assertIn("GET http://localhost", message)


class Trust(SynchronousTestCase):
    """The file of ``auth.caFile``."""

    def test_interface(self) -> None:
        """Twisted's Agent takes the policy."""
        self.assertTrue(verifyObject(IPolicyForHTTPS, TrustPolicy()))

    def test_file_without_certificates(self) -> None:
        """A file that is no PEM is an error at the start, not a trust in nothing, nor in everybody."""
        path = Path(tempfile.mkdtemp()) / "ca.pem"
        for content in ("", "rubbish", "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n"):
            path.write_text(content, encoding="ascii")
            error = self.assertRaises(ValueError, keycloak_http, MemoryReactorClock(), str(path))
            self.assertIn(str(path), str(error))
