"""Fetching over real sockets: TLS that names the host, the checked address, bounds, and nothing followed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mcp_oauth2_proxy.cimd.fetch import MAX_DOCUMENT, MAX_FETCHES, TIMEOUT, Fetcher, FetchError
from mcp_oauth2_proxy.cimd.lookup import MAX_LOOKUPS, Lookup
from mcp_oauth2_proxy.config.model import Cimd
from mcp_oauth2_proxy.wire.trust import TrustPolicy
from tests.support.certificates import private_ca
from tests.support.reactor import global_reactor

HOST = "app.example"
GOOD = {"client_id": "x"}


def answer(body: bytes, *lines: str, status: str = "200 OK") -> bytes:
    """Return an answer as bytes; a line without a value leaves a header out."""
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name] = value
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


class Host(Protocol):
    """Sends what the test has given it, once the request is there."""

    def __init__(self, case: Sockets) -> None:
        self._case = case
        self._received = b""

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\r\n\r\n"):
            self._case.requests.append(self._received)
            assert self.transport is not None
            self.transport.write(self._case.answer)

    def connectionLost(self, reason: object = None) -> None:
        self._case.gone.callback(None)


class Sockets(TestCase):
    """A host behind TLS on 127.0.0.1, whose name the test's own lookup resolves."""

    #: Against hanging only: a name server that cannot be reached is given up by the system, in its own time.
    timeout = 120

    def setUp(self) -> None:
        self.reactor = global_reactor()
        self.answer = answer(json.dumps(GOOD).encode())
        self.requests: list[bytes] = []
        self.lookups: list[str] = []
        self.addresses = ["127.0.0.1"]
        self.gone: Deferred[None] = Deferred()
        ca, certificate = private_ca(host=HOST)
        self.ca_file = Path(tempfile.mkdtemp()) / "ca.pem"
        self.ca_file.write_bytes(ca)
        self.port = self.listen(certificate)
        self.policy = Cimd(allowed_ports=(self.port,), allowed_networks=("127.0.0.0/8",))

    def listen(self, certificate: PrivateCertificate) -> int:
        factory = Factory.forProtocol(lambda: Host(self))
        port: IListeningPort = self.reactor.listenSSL(
            0, factory, certificate.options(), interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        host: Any = port.getHost()
        return int(host.port)

    def lookup(self, host: str) -> Deferred[list[str]]:
        self.lookups.append(host)
        return succeed(self.addresses)

    def fetcher(self, policy: Cimd | None = None) -> Fetcher:
        return Fetcher(
            policy or self.policy,
            reactor=self.reactor,
            lookup=self.lookup,
            tls=TrustPolicy(str(self.ca_file)),
        )

    def url(self, path: str = "/c", host: str = HOST) -> str:
        return f"https://{host}:{self.port}{path}"

    async def refused(self, policy: Cimd | None = None, **where: str) -> FetchError:
        try:
            await self.fetcher(policy).get(self.url(**where))
        except FetchError as error:
            return error
        raise AssertionError("the document was accepted")

    async def test_a_document(self) -> None:
        """What is asked for, and what comes of it; the connection is not kept."""
        self.answer = answer(json.dumps(GOOD).encode(), "Cache-Control: max-age=7200")
        fetched = await self.fetcher().get(self.url("/oauth/c?x=1"))
        self.assertEqual((fetched.document, fetched.lifetime), (GOOD, 7200))
        (request,) = self.requests
        lines = request.decode().split("\r\n")
        self.assertEqual(lines[:2], ["GET /oauth/c?x=1 HTTP/1.1", f"Host: {HOST}:{self.port}"])
        self.assertIn("Accept: application/json", lines)
        self.assertNotIn("Cookie", request.decode())
        await self.gone

    async def test_the_checked_address_is_connected_to(self) -> None:
        """The name is resolved once: a second answer (DNS rebinding) is never asked for."""
        await self.fetcher().get(self.url())
        self.assertEqual(self.lookups, [HOST])

    async def test_one_bad_address_spoils_the_name(self) -> None:
        """A name that also resolves inwards is refused before anything is connected to."""
        for bad in ("10.0.0.1", "169.254.169.254", "::1", "fe80::1"):
            self.addresses = ["127.0.0.1", bad]
            self.assertIn(f"resolves to {bad}", str(await self.refused()))
        self.addresses = ["127.0.0.1"]
        self.assertIn(
            "resolves to 127.0.0.1", str(await self.refused(evolve(self.policy, allowed_networks=())))
        )
        self.assertEqual(self.requests, [])

    async def test_another_address_of_the_host(self) -> None:
        """Where the first address refuses the connection the next one is tried."""
        self.addresses = ["127.0.0.3", "127.0.0.1"]
        self.assertEqual((await self.fetcher().get(self.url())).document, GOOD)

    async def test_nobody_there(self) -> None:
        """A host that refuses connections, or has no address."""
        self.addresses = ["127.0.0.3"]
        self.assertIn("cannot connect", str(await self.refused()))
        self.addresses = []
        self.assertIn("resolves to nothing", str(await self.refused()))

    async def test_tls_names_the_host(self) -> None:
        """A certificate for another name is worth nothing, nor is one of another authority."""
        self.assertTrue(str(await self.refused(host="other.example")))
        await self.gone
        self.gone = Deferred()
        self.ca_file.write_bytes(private_ca(name="Another CA")[0])
        self.assertTrue(str(await self.refused()))
        await self.gone
        self.assertEqual(self.requests, [])

    async def test_answers_that_are_no_document(self) -> None:
        """Each is refused with a word; only a 404 or 410 says that there is none."""
        good = json.dumps(GOOD).encode()
        cases: list[tuple[bytes, str]] = [
            (answer(good, "Location: https://elsewhere.example/c", status="302 Found"), "status 302"),
            (answer(good, status="403 Forbidden"), "status 403"),
            (answer(good, status="500 Oops"), "status 500"),
            (answer(good, "Content-Type: text/html"), "content type is 'text/html'"),
            (answer(good, "Content-Type: "), "content type is ''"),
            (answer(good, "Content-Encoding: gzip"), "compressed"),
            (answer(b"[1]"), "not a JSON object"),
            (answer(b"{"), "not JSON"),
            (answer(b"\xff\xfe"), "not JSON"),
            (answer(b'{"a": "\\ud800"}'), "not JSON"),
            (answer(b"[" * 60000), "not JSON"),
            (answer(b'"' + b"x" * MAX_DOCUMENT + b'"'), "larger than 65536"),
            (answer(good, "Content-Length: ") + b" " * MAX_DOCUMENT, "larger than 65536"),
            (answer(good, "Transfer-Encoding: chunked"), "MalformedResponse"),
            (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000, "MalformedResponse"),
            (b"SSH-2.0-OpenSSH\r\n", "MalformedResponse"),
        ]
        for self.answer, said in cases:
            self.gone = Deferred()
            error = await self.refused()
            self.assertIn(said, str(error), self.answer[:80])
            self.assertFalse(error.gone)
            await self.gone
        for status in ("404 Not Found", "410 Gone"):
            self.gone = Deferred()
            self.answer = answer(good, status=status)
            self.assertTrue((await self.refused()).gone)
            await self.gone

    async def test_stop(self) -> None:
        """A stopping process leaves no fetch behind."""
        self.answer = b""
        fetcher = self.fetcher()
        fetching = Deferred.fromCoroutine(fetcher.get(self.url()))
        await self._soon(lambda: bool(self.requests))
        fetcher.stop()
        try:
            await fetching
        except CancelledError:
            await self.gone
        else:
            raise AssertionError("the fetch went on")

    async def _soon(self, condition: Callable[[], bool]) -> None:
        while not condition():
            turn: Deferred[None] = Deferred()
            self.reactor.callLater(0.01, turn.callback, None)
            await turn

    async def test_names_by_the_system(self) -> None:
        """The real lookup finds what the system knows, and says so where it knows nothing."""
        lookup = Lookup(self.reactor)
        self.assertIn("127.0.0.1", await lookup("localhost"))
        try:
            await lookup("no-such-host.invalid")
        except DNSLookupError:
            return
        raise AssertionError("a name that cannot be was found")


class Bounds(SynchronousTestCase):
    """Time and number, with a clock to turn."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.found: list[Deferred[list[str]]] = []
        self.fetcher = Fetcher(Cimd(), reactor=self.reactor, lookup=self.lookup, tls=TrustPolicy())

    def lookup(self, _: str) -> Deferred[list[str]]:
        self.found.append(Deferred())
        return self.found[-1]

    def fetch(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.fetcher.get("https://app.example/c"))

    def test_a_name_server_that_does_not_answer(self) -> None:
        """Five seconds for everything, the lookup included; nothing is left on the clock."""
        fetching = self.fetch()
        self.reactor.advance(TIMEOUT - 0.1)
        self.assertNoResult(fetching)
        self.reactor.advance(0.1)
        self.assertIn("no answer within 5 s", str(self.failureResultOf(fetching, FetchError).value))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_host_that_does_not_answer(self) -> None:
        """The same for a host that takes no connection."""
        fetching = self.fetch()
        self.found[0].callback(["203.0.114.1"])
        self.assertEqual(self.reactor.tcpClients[0][:2], ("203.0.114.1", 443))
        self.reactor.advance(TIMEOUT)
        self.assertIn("no answer within 5 s", str(self.failureResultOf(fetching, FetchError).value))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_flood(self) -> None:
        """Only so many at once; the next one is told at once, and there is room again afterwards."""
        flood = [self.fetch() for _ in range(MAX_FETCHES)]
        self.assertIn("too many", str(self.failureResultOf(self.fetch(), FetchError).value))
        self.found[0].errback(DNSLookupError("no"))
        self.assertIn("cannot be resolved", str(self.failureResultOf(flood[0], FetchError).value))
        room = self.fetch()
        self.assertNoResult(room)
        for fetching in [*flood[1:], room]:
            fetching.addErrback(lambda _: None)
        self.fetcher.stop()

    def test_forbidden_urls(self) -> None:
        """What may not be fetched is not even looked up."""
        fetching = Deferred.fromCoroutine(self.fetcher.get("https://127.0.0.1/c"))
        self.failureResultOf(fetching, ValueError)
        self.assertEqual(self.found, [])

    def test_lookups_are_bounded(self) -> None:
        """Names that hang take a bounded number of threads."""
        lookup = Lookup(self.reactor)
        lookup._under_way = MAX_LOOKUPS
        self.failureResultOf(lookup("app.example"), DNSLookupError)


class Failures(SynchronousTestCase):
    """What the log is told."""

    def test_a_lookup_that_fails(self) -> None:
        """The reason is in words."""
        fetcher = Fetcher(
            Cimd(),
            reactor=MemoryReactorClock(),
            lookup=lambda _: fail(DNSLookupError("Name or service not known")),
            tls=TrustPolicy(),
        )
        failure = self.failureResultOf(
            Deferred.fromCoroutine(fetcher.get("https://app.example/c")), FetchError
        )
        self.assertIn("the host name cannot be resolved", str(failure.value))
        self.assertIn("Name or service not known", str(failure.value))
