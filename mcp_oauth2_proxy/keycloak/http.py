"""Asking Keycloak: bounded in time and size, answers as JSON objects, every failure a readable line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import field, frozen
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

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
    """Gathers a body up to a bound; more than that ends the exchange."""

    def __init__(self, finished: Deferred[bytes]) -> None:
        self._finished = finished
        self._chunks: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        self._chunks.append(data)
        if self._size > MAX_BODY:
            self._end(Failure(KeycloakUnavailable(f"the answer is larger than {MAX_BODY} bytes")))
            if self.transport is not None:
                self.transport.loseConnection()

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008 (Twisted's own default)
        self._end(b"".join(self._chunks) if reason.check(ResponseDone, PotentialDataLoss) else reason)

    def _end(self, result: bytes | Failure) -> None:
        finished, self._finished = self._finished, Deferred()
        if not finished.called:
            finished.callback(result) if isinstance(result, bytes) else finished.errback(result)


class KeycloakHTTP:
    """One way to ask: ``GET`` a document, or ``POST`` a form."""

    def __init__(self, client: HTTPClient, clock: IReactorTime) -> None:
        self._client = client
        self._clock = clock

    async def get(self, url: str) -> Answer:
        """Fetch a JSON document.

        :raises KeycloakUnavailable: no answer in time, or one that is no JSON object.
        """
        return await self._ask("GET", url)

    async def post(self, url: str, form: Mapping[str, str]) -> Answer:
        """Post a form; raises as :meth:`get`."""
        return await self._ask("POST", url, data=dict(form))

    async def _ask(self, method: str, url: str, **options: Any) -> Answer:
        where = f"{method} {_without_query(url)}"
        exchange: Deferred[tuple[int, bytes]] = Deferred.fromCoroutine(self._exchange(method, url, options))
        timer: IDelayedCall = self._clock.callLater(TIMEOUT, exchange.cancel)
        try:
            status, body = await exchange
        except CancelledError:
            if timer.active():
                raise
            raise KeycloakUnavailable(f"{where}: no answer within {TIMEOUT:g} s") from None
        except KeycloakUnavailable as error:
            raise KeycloakUnavailable(f"{where}: {error}") from None
        except Exception as error:
            raise KeycloakUnavailable(f"{where}: {_readable(error)}") from error
        finally:
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
        finished: Deferred[bytes] = Deferred()
        response.deliverBody(_Collector(finished))
        return response.code, await finished


def _json_object(body: bytes, where: str, status: int) -> Mapping[str, Any]:
    try:
        document = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise KeycloakUnavailable(f"{where}: status {status} without a JSON object")
    return document


def _readable(error: BaseException) -> str:
    """Return the cause in words; Twisted wraps the interesting one."""
    if isinstance(error, ResponseFailed) and error.reasons:
        return _readable(error.reasons[0].value)
    if isinstance(error, DNSLookupError):
        return "the host name cannot be resolved"
    if isinstance(error, ConnectError):
        return f"cannot connect ({error.args[0] if error.args else type(error).__name__})"
    return f"{type(error).__name__}: {error}"[:300]


def _without_query(url: str) -> str:
    split = urlsplit(url)
    return f"{split.scheme}://{split.netloc}{split.path}"
