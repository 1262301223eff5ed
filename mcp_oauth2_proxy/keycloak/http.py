"""Asking Keycloak: bounded in time and size, answers as JSON objects, every failure a readable line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import field, frozen
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from mcp_oauth2_proxy.keycloak.agent import KeycloakClient
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable

#: Seconds for one whole exchange. Keycloak hashes passwords elsewhere; these answers take milliseconds.
TIMEOUT = 10.0
#: Largest answer in bytes: a key set of a hundred keys with certificates stays below.
MAX_BODY = 1024 * 1024

_HEADERS = Headers({b"Accept": [b"application/json"]})


@frozen
class Answer:
    """A JSON object from Keycloak and its status. The body may hold tokens."""

    status: int
    body: Mapping[str, Any] = field(repr=False)


class _Collector(Protocol):
    """Gathers a body up to a bound; more than that, or a cancelled exchange, ends the connection."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self.finished: Deferred[bytes] = Deferred(lambda _: self._disconnect())

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MAX_BODY:
            self._chunks.append(data)
        elif not self.finished.called:
            self.finished.errback(KeycloakUnavailable(f"the answer is larger than {MAX_BODY} bytes"))
            self._disconnect()

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008 (Twisted's own default)
        if self.finished.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.finished.callback(b"".join(self._chunks))
        else:
            self.finished.errback(reason)

    def _disconnect(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


class KeycloakHTTP:
    """One way to ask: ``GET`` a document, or ``POST`` a form."""

    def __init__(self, client: HTTPClient, clock: IReactorTime) -> None:
        self._client = client
        self._clock = clock
        self._under_way: set[Deferred[tuple[int, bytes]]] = set()

    async def get(self, url: str) -> Answer:
        """Fetch a JSON document.

        :raises KeycloakUnavailable: no answer in time, or one that is no JSON object.
        """
        return await self._ask("GET", url, TIMEOUT)

    async def post(self, url: str, form: Mapping[str, str], *, timeout: float = TIMEOUT) -> Answer:
        """Post a form, and wait ``timeout`` seconds for the answer; raises as :meth:`get`."""
        return await self._ask("POST", url, timeout, data=dict(form))

    def close(self) -> Deferred[None]:
        """End every exchange under way, whose caller sees a cancellation, and close idle connections."""
        for exchange in tuple(self._under_way):
            exchange.cancel()
        return self._client.close() if isinstance(self._client, KeycloakClient) else succeed(None)

    async def _ask(self, method: str, url: str, timeout: float, **options: Any) -> Answer:
        where = f"{method} {_without_query(url)}"
        exchange: Deferred[tuple[int, bytes]] = Deferred.fromCoroutine(self._exchange(method, url, options))
        timer: IDelayedCall = self._clock.callLater(timeout, exchange.cancel)
        self._under_way.add(exchange)
        try:
            status, body = await exchange
        except KeycloakUnavailable as error:
            raise KeycloakUnavailable(f"{where}: {error}") from None
        except Exception as error:
            if not timer.active():
                raise KeycloakUnavailable(f"{where}: no answer within {timeout:g} s") from None
            if _is_cancellation(error):
                raise CancelledError from None
            raise KeycloakUnavailable(f"{where}: {_readable(error)}") from error
        finally:
            self._under_way.discard(exchange)
            if timer.active():
                timer.cancel()
        return Answer(status, _json_object(body, where, status))

    async def _exchange(self, method: str, url: str, options: dict[str, Any]) -> tuple[int, bytes]:
        response: IResponse = await self._client.request(
            method,
            url,
            headers=_HEADERS,
            allow_redirects=False,
            unbuffered=True,
            **options,
        )
        collector = _Collector()
        response.deliverBody(collector)
        return response.code, await collector.finished


def _json_object(body: bytes, where: str, status: int) -> Mapping[str, Any]:
    if not body and status == 200:  # how Keycloak says that a revocation is done
        return {}
    try:
        document = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise KeycloakUnavailable(f"{where}: status {status} without a JSON object")
    return document


def _causes(error: BaseException) -> list[BaseException]:
    """Return what an error of Twisted's HTTP client wraps; of a TLS failure the first is the telling one."""
    return [reason.value for reason in getattr(error, "reasons", ())]


def _is_cancellation(error: BaseException) -> bool:
    return isinstance(error, CancelledError | ConnectingCancelledError) or any(
        map(_is_cancellation, _causes(error))
    )


def _readable(error: BaseException) -> str:
    """Return the cause in words, in one bounded line."""
    causes = _causes(error)
    if causes:
        return _readable(causes[0])
    if isinstance(error, DNSLookupError):
        return "the host name cannot be resolved"
    if isinstance(error, ConnectError):
        return f"cannot connect ({error.args[0] if error.args else type(error).__name__})"
    if isinstance(error, SSL.Error):
        return f"TLS failed ({_openssl_words(error)}); a private CA belongs into auth.caFile"
    if isinstance(error, VerificationError):
        return "TLS failed (the certificate is for another host)"
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _openssl_words(error: SSL.Error) -> str:
    """Return OpenSSL's own words; an error of it is a list of (library, function, words)."""
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(str(reason[-1]) for reason in reasons[:3]) or "no reason given"


def _without_query(url: str) -> str:
    split = urlsplit(url)
    return f"{split.scheme}://{split.netloc}{split.path}"
