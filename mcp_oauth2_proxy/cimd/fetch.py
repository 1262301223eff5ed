"""Fetching a stranger's JSON: the name is resolved once, each address checked, and that address connected to.

So a name that changes its mind between check and connection (DNS rebinding) gains nothing. One answer,
no redirect, bounded in size and time, over TLS whose certificate names the host.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS

from mcp_oauth2_proxy.cimd.addresses import may_connect, networks
from mcp_oauth2_proxy.cimd.freshness import lifetime
from mcp_oauth2_proxy.cimd.urls import DocumentUrl, read_url
from mcp_oauth2_proxy.config.model import Cimd
from mcp_oauth2_proxy.wire.connection import ClientConnection
from mcp_oauth2_proxy.wire.deadline import Deadlines
from mcp_oauth2_proxy.wire.errors import WireError
from mcp_oauth2_proxy.wire.requests import request_head
from mcp_oauth2_proxy.wire.response import WireResponse

#: Seconds for all of it: name, connection, TLS, answer.
TIMEOUT = 5.0
#: Bytes of a document.
MAX_DOCUMENT = 64 * 1024
#: Documents being fetched at once.
MAX_FETCHES = 32
#: Addresses of one host that are tried.
MAX_ADDRESSES = 3

_HEADERS = Headers({b"Accept": [b"application/json"], b"User-Agent": [b"mcp-oauth2-proxy"]})


class FetchError(Exception):
    """No document came. The text is for the log: to the client it would map the operator's network.

    ``gone`` says that its host answered that there is none.
    """

    def __init__(self, message: str, *, gone: bool = False) -> None:
        super().__init__(message)
        self.gone = gone


@frozen
class Fetched:
    """A JSON object, and for how many seconds it is fresh."""

    document: Mapping[str, Any]
    lifetime: float


class Fetcher:
    """Fetches by ``policy``. ``lookup(host)`` returns a Deferred of numeric addresses."""

    def __init__(
        self,
        policy: Cimd,
        *,
        reactor: Any,
        lookup: Callable[[str], Deferred[list[str]]],
        tls: IPolicyForHTTPS,
    ) -> None:
        self._policy = policy
        self._allowed = networks(policy.allowed_networks)
        self._reactor = reactor
        self._deadlines = Deadlines(reactor)
        self._lookup = lookup
        self._tls = tls
        self._under_way: set[Deferred[Fetched]] = set()

    async def get(self, text: str) -> Fetched:
        """Return the JSON object at the URL ``text``.

        :raises ValueError: the URL may not be fetched, saying what it "has" or "is".
        :raises FetchError: it could not be fetched, or is no JSON object.
        """
        url = read_url(text, self._policy)
        if len(self._under_way) >= MAX_FETCHES:
            raise FetchError("too many documents are being fetched at the moment")
        clock: IReactorTime = self._reactor
        fetching: Deferred[Fetched] = Deferred.fromCoroutine(self._fetch(url))
        self._under_way.add(fetching)
        timer: IDelayedCall = clock.callLater(TIMEOUT, fetching.cancel)
        try:
            return await fetching
        except FetchError:
            raise
        except Exception as error:
            if not timer.active():
                raise FetchError(f"no answer within {TIMEOUT:g} s") from None
            if isinstance(error, CancelledError):
                raise
            raise FetchError(_readable(error)) from error
        finally:
            self._under_way.discard(fetching)
            if timer.active():
                timer.cancel()

    def stop(self) -> None:
        """End every fetch; who waits for one sees a cancellation."""
        for fetching in tuple(self._under_way):
            fetching.cancel()

    async def _fetch(self, url: DocumentUrl) -> Fetched:
        connection = await self._connect(url, await self._addresses(url))
        try:
            response = await connection.send(b"GET", _head(url), None)
            body = await _body(response)
        finally:
            connection.abort()
        return Fetched(_json_object(response, body), lifetime(response.rawHeaders))

    async def _addresses(self, url: DocumentUrl) -> list[str]:
        addresses = list(dict.fromkeys(await self._lookup(url.host)))
        refused = [address for address in addresses if not may_connect(address, self._allowed)]
        # One bad address spoils the name: an honest host has none.
        if refused or not addresses:
            shown = ", ".join(refused[:MAX_ADDRESSES]) or "nothing"
            raise FetchError(f"{url.host} resolves to {shown}, where no document is fetched from")
        return addresses[:MAX_ADDRESSES]

    async def _connect(self, url: DocumentUrl, addresses: list[str]) -> ClientConnection:
        trouble: ConnectError | None = None
        for address in addresses:
            kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
            endpoint = wrapClientTLS(
                self._tls.creatorForNetloc(url.host.encode("ascii"), url.port),
                kind(self._reactor, address, url.port, timeout=TIMEOUT),
            )
            try:
                return await endpoint.connect(Factory.forProtocol(self._connection))  # type: ignore[return-value]
            except ConnectError as error:
                trouble = error
        raise FetchError(f"cannot connect to {url.host} ({_readable(trouble)})")

    def _connection(self) -> ClientConnection:
        return ClientConnection(
            self._deadlines, head_timeout=TIMEOUT, idle_timeout=0, released=_ignore, lost=_ignore
        )


def _ignore(_: ClientConnection) -> None:
    """One document, one connection: it is cut once the document is there."""


def _head(url: DocumentUrl) -> bytes:
    host = url.host if url.port == 443 else f"{url.host}:{url.port}"
    return request_head(b"GET", url.target.encode("ascii"), host.encode("ascii"), _HEADERS, None)


class _Collector(Protocol):
    """Gathers at most :data:`MAX_DOCUMENT` bytes."""

    def __init__(self) -> None:
        self._body = b""
        self.finished: Deferred[bytes] = Deferred(lambda _: self._cut())

    def dataReceived(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > MAX_DOCUMENT and not self.finished.called:
            self.finished.errback(FetchError(f"the answer is larger than {MAX_DOCUMENT} bytes"))
            self._cut()

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008 (Twisted's own default)
        if self.finished.called:
            return
        if reason.check(ResponseDone):
            self.finished.callback(self._body)
        else:
            self.finished.errback(FetchError("the answer broke off"))

    def _cut(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def _body(response: WireResponse) -> Deferred[bytes]:
    collector = _Collector()
    response.deliverBody(collector)
    return collector.finished


def _json_object(response: WireResponse, body: bytes) -> Mapping[str, Any]:
    if response.code != 200:
        raise FetchError(f"status {response.code}", gone=response.code in (404, 410))
    headers = {name.lower(): value.decode("latin-1").strip().lower() for name, value in response.rawHeaders}
    media = headers.get(b"content-type", "").partition(";")[0].strip()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise FetchError(f"the content type is {media[:60]!r} and not application/json")
    if headers.get(b"content-encoding", "identity") != "identity":
        raise FetchError("the answer is compressed, which was not asked for")
    try:
        document = json.loads(body.decode("utf-8"))
        # Lone surrogates are valid JSON escapes and no text.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise FetchError("the answer is not JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise FetchError("the answer is not a JSON object")
    return document


def _readable(error: BaseException | None) -> str:
    if isinstance(error, DNSLookupError):
        return f"the host name cannot be resolved ({error})"[:300]
    causes = [reason.value for reason in getattr(error, "reasons", ()) or ()]
    if causes:
        return _readable(causes[0])
    if isinstance(error, WireError) and error.__cause__ is not None:
        return f"{error} ({type(error.__cause__).__name__})"[:300]
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
