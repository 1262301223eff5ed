"""From a request to an :class:`Answer`: what every endpoint of the facade shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request

from mcp_oauth2_proxy.facade.answers import NO_STORE, Answer, json_answer, redirect_answer
from mcp_oauth2_proxy.facade.errors import (
    ClientAuthenticationError,
    MethodNotAllowedError,
    OAuthError,
    RateLimitedError,
    Reason,
    RedirectedError,
    RegistrationTokenError,
    invalid_request,
)
from mcp_oauth2_proxy.facade.facade import Facade
from mcp_oauth2_proxy.facade.pages import is_web
from mcp_oauth2_proxy.facade.parameters import (
    MAX_BODY,
    Parameters,
    body_too_large,
    parse_query,
)
from mcp_oauth2_proxy.facade.redirects import answer_url, parse_redirect_uri
from mcp_oauth2_proxy.ops.cors import Cors
from mcp_oauth2_proxy.ops.crossorigin import prepare
from mcp_oauth2_proxy.ops.limits import LimitKind
from mcp_oauth2_proxy.wire.body import read_body
from mcp_oauth2_proxy.wire.errors import BodyIncomplete, BodyTooLarge
from mcp_oauth2_proxy.wire.request import StreamingRequest

#: Seconds after which a client may try again what was temporarily unavailable.
RETRY_AFTER = 5


class Exchange:
    """One request under way at an endpoint: what it says, and who has to hear of it."""

    def __init__(self, request: Request) -> None:
        # Twisted types what it renders as its own Request; WireSite makes them all of this kind.
        self.request = cast(StreamingRequest, request)
        self.method = request.method.decode("latin-1")
        #: What person and log know this request by.
        self.reference = self.request.requestId

    def header(self, name: str) -> str | None:
        """Return the first value of a header."""
        values = self.headers(name)
        return values[0].decode("latin-1") if values else None

    def headers(self, name: str) -> list[bytes]:
        """Return every value of a header."""
        return list(self.request.requestHeaders.getRawHeaders(name.encode("ascii")) or ())

    def query(self) -> Parameters:
        """Return the query's parameters."""
        uri: bytes = self.request.uri
        return parse_query(uri.partition(b"?")[2])

    async def body(self, most: int = MAX_BODY) -> bytes:
        """Return the body, of at most ``most`` bytes."""
        try:
            return await read_body(self.request, most)
        except BodyTooLarge:
            raise body_too_large(most) from None
        except BodyIncomplete:
            raise invalid_request("the body is incomplete", Reason.BODY_INCOMPLETE) from None

    def wants_page(self) -> bool:
        """Return whether a person's browser asks, rather than a program."""
        return any(b"text/html" in value.lower() for value in self.headers("Accept"))

    def note(self, **notes: object) -> None:
        """Tell the access log something about this request."""
        self.request.notes.update(notes)


class FacadeResource(Resource, ABC):
    """An endpoint: :meth:`answer` returns an :class:`Answer` or raises :exc:`OAuthError`.

    ``methods`` are the methods it knows; GET implies HEAD. ``is_page`` says that people come here,
    and ``limit`` as what its requests are counted.
    """

    methods: ClassVar[tuple[str, ...]] = ("GET",)
    is_page: ClassVar[bool] = False
    limit: ClassVar[LimitKind | None] = None
    _log = Logger()

    def __init__(self, facade: Facade) -> None:
        super().__init__()
        self.facade = facade

    def getChild(self, path: bytes, request: Request) -> IResource:
        """Nothing lies under an endpoint."""
        return OAuthNotFound(self.facade.cors)

    def render(self, request: Request) -> int:
        """Answer ``request`` in its own time; a disconnect cancels what is under way."""
        exchange = Exchange(request)
        if not self.is_page and prepare(self.facade.cors, exchange.request, cached=True):
            return NOT_DONE_YET
        task = Deferred.fromCoroutine(self._answered(exchange))
        gone = request.notifyFinish()
        gone.addErrback(lambda _: task.cancel())
        task.addCallback(self._write, exchange)
        task.addErrback(self._lost, exchange)
        return NOT_DONE_YET

    @abstractmethod
    async def answer(self, exchange: Exchange) -> Answer:
        """Return the endpoint's answer."""

    async def _answered(self, exchange: Exchange) -> Answer:
        try:
            return await self._checked(exchange)
        except OAuthError as error:
            self._log_refusal(error, exchange)
            return self._refusal(error, exchange)
        except (CancelledError, ConnectionLost):
            raise
        except Exception:
            self._log.failure("the facade failed ref={reference}", reference=exchange.reference)
            exchange.note(reason=Reason.INTERNAL.value)
            internal = OAuthError("server_error", 500, "something went wrong here", reason=Reason.INTERNAL)
            return self._refusal(internal, exchange)

    async def _checked(self, exchange: Exchange) -> Answer:
        allowed = tuple(
            name for method in self.methods for name in ((method, "HEAD") if method == "GET" else (method,))
        )
        if exchange.method not in allowed:
            raise MethodNotAllowedError(allowed)
        if self.limit is not None:
            limited = self.facade.limit(self.limit, exchange.request)
            if limited is not None:
                raise RateLimitedError(limited)
        return await self.answer(exchange)

    def _log_refusal(self, error: OAuthError, exchange: Exchange) -> None:
        exchange.note(reason=error.reason.value)
        if isinstance(error, RateLimitedError) and not error.is_told:
            return
        self._log.info(
            "{endpoint} refused: {reason} ({code}: {description}) {detail} ref={reference}",
            endpoint=type(self).__name__,
            reason=error.reason.value,
            code=error.code,
            description=error.description,
            detail=error.detail,
            reference=exchange.reference,
        )

    def _refusal(self, error: OAuthError, exchange: Exchange) -> Answer:
        if isinstance(error, RedirectedError):
            url = self._error_url(error, exchange)
            elsewhere = is_web(url) and not parse_redirect_uri(error.redirect_uri).is_loopback
            if error.unasked and elsewhere and exchange.wants_page():
                return self.facade.pages.error(error, exchange.reference, back=url)
            return self.leave(url, done=True)
        extra: list[tuple[str, str]] = []
        if isinstance(error, MethodNotAllowedError):
            extra.append(("Allow", ", ".join(error.allowed)))
        if isinstance(error, ClientAuthenticationError) and error.basic:
            extra.append(("WWW-Authenticate", 'Basic realm="mcp-oauth2-proxy", charset="UTF-8"'))
        if isinstance(error, RegistrationTokenError):
            extra.append(("WWW-Authenticate", 'Bearer realm="mcp-oauth2-proxy", error="invalid_token"'))
        if isinstance(error, RateLimitedError):
            extra.append(("Retry-After", str(error.retry_after)))
        if error.status == 503:
            extra.append(("Retry-After", str(RETRY_AFTER)))
        if self.is_page and exchange.wants_page():
            page = self.facade.pages.error(error, exchange.reference)
            return Answer(page.status, (*page.headers, *extra), page.body)
        return json_answer(error.status, error_document(error, exchange.reference), (*NO_STORE, *extra))

    def _error_url(self, error: RedirectedError, exchange: Exchange) -> str:
        document = error_document(error, exchange.reference)
        return answer_url(
            error.redirect_uri,
            {
                "error": document["error"],
                "error_description": document["error_description"],
                "state": error.state,
                "iss": self.facade.base_url,
            },
        )

    def leave(self, url: str, *, done: bool) -> Answer:
        """Return the way out after a GET: a redirect, or for an app's own scheme a page that opens it."""
        return redirect_answer(url) if is_web(url) else self.facade.pages.leave(url, done=done)

    def _write(self, answer: Answer, exchange: Exchange) -> None:
        write_answer(exchange.request, answer)

    def _lost(self, failure: Failure, exchange: Exchange) -> None:
        if not failure.check(CancelledError, ConnectionLost):
            self._log.failure(
                "answer not written ref={reference}", failure=failure, reference=exchange.reference
            )


def error_document(error: OAuthError, reference: str) -> dict[str, str]:
    """Return the JSON error of RFC 6749 section 5.2; the reference is in its description."""
    # RFC 6749 allows neither '"' nor '\' nor anything outside ASCII in a description.
    text = "".join(c for c in error.description if " " <= c <= "~" and c not in '"\\')
    return {"error": error.code, "error_description": f"{text} (reference {reference})"}


def write_answer(request: Request, answer: Answer) -> None:
    """Write ``answer`` and finish; a HEAD request gets its head only."""
    request.setResponseCode(answer.status)
    names: set[str] = set()
    for name, value in answer.headers:
        line = (name.encode("ascii"), value.encode("latin-1"))
        if name in names:
            request.responseHeaders.addRawHeader(*line)
        else:
            request.responseHeaders.setRawHeaders(line[0], [line[1]])
        names.add(name)
    request.setHeader(b"content-length", b"%d" % len(answer.body))
    request.write(b"" if request.method == b"HEAD" else answer.body)
    request.finish()


class OAuthNotFound(Resource):
    """A JSON 404 for what is not named among the facade's URLs: never 401, never the upstream."""

    def __init__(self, cors: Cors) -> None:
        super().__init__()
        self._cors = cors

    def getChild(self, path: bytes, request: Request) -> IResource:
        """Everything below is not found either."""
        return OAuthNotFound(self._cors)

    def render(self, request: Request) -> int:
        """Answer 404: readable for a page's script too, which tries one well-known URL after the other."""
        exchange = Exchange(request)
        if prepare(self._cors, exchange.request, cached=True):
            return NOT_DONE_YET
        error = OAuthError("not_found", 404, "there is nothing here", reason=Reason.NOT_FOUND)
        exchange.note(reason=error.reason.value)
        write_answer(request, json_answer(404, error_document(error, exchange.reference)))
        return NOT_DONE_YET
