"""The relay's HTTP client: treq's shape, without what a relay must not do."""

from __future__ import annotations

from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

Pair = tuple[bytes, bytes]


class RelayClient(HTTPClient):
    """treq's client over any agent, for other people's requests.

    It leaves out the cookie jar (one jar for all users would send one user's cookies with another's
    requests), redirects, decoding and default headers: what goes in comes out.
    """

    def request(  # type: ignore[override]
        self,
        method: str | bytes,
        url: str | bytes,
        *,
        headers: Headers | dict[bytes | str, bytes | str] | None = None,
        data: Any = None,
        _stacklevel: int = 2,
    ) -> Deferred[IResponse]:
        """Send one request; the Deferred fires as soon as the response's head is there.

        ``data`` is an ``IBodyProducer`` or what treq's adapters make one of. Cancelling the Deferred
        drops the connection.
        """
        if isinstance(method, str):
            method = method.encode("ascii")
        if isinstance(url, str):
            url = url.encode("ascii")
        if not isinstance(headers, Headers):
            headers = self._request_headers(headers, _stacklevel + 1)
        producer = None if data is None else self._data_to_body_producer(data)
        result: Deferred[IResponse] = self._agent.request(method, url, headers, producer)
        return result


def response_pairs(response: IResponse) -> list[Pair]:
    """Return a response's header lines: as they came where the agent keeps them, else by name."""
    raw: list[Pair] | None = getattr(response, "rawHeaders", None)
    if raw is not None:
        return raw
    pairs = [(name, value) for name, values in response.headers.getAllRawHeaders() for value in values]
    length = response.length
    # Twisted's own agent takes the framing out of the headers.
    if isinstance(length, int) and not response.headers.hasHeader(b"content-length"):
        pairs.append((b"Content-Length", b"%d" % length))
    return pairs


def whole_body(response: IResponse) -> bytes | None:
    """Return a response's body where all of it has come along with the head, and the agent can tell."""
    take = getattr(response, "take", None)
    return None if take is None else take()


def abort_response(response: IResponse) -> None:
    """Drop the connection of a response that nobody waits for any more."""
    abort = getattr(response, "abort", None)
    if abort is not None:
        abort()
    else:
        response.deliverBody(_Unwanted())


class _Unwanted(Protocol):
    """Hangs up on a body: an undelivered one would stay connected for ever."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        (getattr(transport, "abortConnection", None) or transport.stopProducing)()
