"""Everything that is not OAuth: the gate, and behind it the upstream."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from urllib.parse import urlsplit

from attrs import define, frozen
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from mcp_oauth2_proxy.config.cookies import cookie_prefix
from mcp_oauth2_proxy.config.model import Config
from mcp_oauth2_proxy.gate.challenge import carried_challenge, challenge, error_code, status
from mcp_oauth2_proxy.gate.gate import Gate, digest_of
from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.gate.model import Identity, Reason, Refusal
from mcp_oauth2_proxy.gate.resource_id import metadata_url, resource_url
from mcp_oauth2_proxy.keycloak.interfaces import IRealm, KeycloakUnavailable
from mcp_oauth2_proxy.ops.cors import Cors
from mcp_oauth2_proxy.ops.crossorigin import prepare
from mcp_oauth2_proxy.ops.peers import TrustedProxies, peer_address
from mcp_oauth2_proxy.relay.answers import answer_error, answer_unavailable
from mcp_oauth2_proxy.relay.asking import Asker
from mcp_oauth2_proxy.relay.client import RelayClient
from mcp_oauth2_proxy.relay.exchange import Exchange, Relay
from mcp_oauth2_proxy.relay.headers import HeaderRules
from mcp_oauth2_proxy.relay.legacy_sse import PathPrefixes
from mcp_oauth2_proxy.relay.reasons import Reason as RelayReason
from mcp_oauth2_proxy.relay.rechecks import Rechecks
from mcp_oauth2_proxy.relay.streams import Streams
from mcp_oauth2_proxy.relay.target import BadTargetError, UpstreamTarget, split_target
from mcp_oauth2_proxy.relay.values import Inbound
from mcp_oauth2_proxy.wire.headers import RawHeaders
from mcp_oauth2_proxy.wire.request import StreamingRequest

#: Paths whose resource URL is remembered: a server has a handful, a scanner's others pass through.
_REMEMBERED_PATHS = 256
#: Under this key of ``request.headNotes`` a request's route is kept.
_ROUTE = "route"


@frozen
class _Destination:
    """A path that requests want to go to, and which resource their tokens must be for."""

    path: bytes
    resource: str


@define
class _Route:
    """Where a request goes, worked out once for all that repeat its head on their connection.

    ``headers`` are what the upstream gets, as the header rules make them for ``identity``.
    """

    target: bytes
    destination: _Destination
    query: bytes | None
    url: bytes
    authorization: Sequence[bytes]
    #: Of the authorization: see :meth:`Gate.check`.
    digest: bytes
    identity: Identity | None = None
    headers: RawHeaders = RawHeaders(())


class ProxyResource(Resource):
    """The proxied MCP server. A request passes the gate before a byte of its body is read.

    With an ``asker`` Keycloak has the last word on every token.
    """

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        config: Config,
        *,
        gate: Gate,
        realm: IRealm,
        client: RelayClient,
        clock: IReactorTime,
        asker: Asker | None = None,
    ) -> None:
        super().__init__()
        auth, server = config.auth, config.server
        self._base_url = auth.base_url
        self._required_scopes = auth.required_scopes
        self._gate = gate
        self._realm = realm
        self._clock = clock
        self._asker = asker
        self._settle = self._conclude if asker is None else self._ask
        self._cors = Cors(server.cors_origins)
        self._trusted = TrustedProxies(server.trusted_proxies)
        self._target = UpstreamTarget.from_url(config.upstream.url)
        self._rules = HeaderRules(
            config.headers.mutations,
            host=self._target.host,
            own_cookies=cookie_prefix(auth.base_url).encode("ascii"),
        )
        self._destination = lru_cache(maxsize=_REMEMBERED_PATHS)(self._name_destination)
        self._under_way: set[Exchange] = set()
        rechecks = None
        if asker is not None:
            rechecks = Rechecks(
                lambda stream: asker.ask(stream.authorization, stream.identity), every=config.gate.introspect
            )
        self.streams = Streams(clock, config.gate.stream_grace, rechecks)
        self._ending = False
        self._relay = Relay(
            client=client,
            clock=clock,
            max_body=server.max_body_bytes,
            under_way=self._under_way,
            streams=self.streams,
            prefixes=PathPrefixes(
                upstream=urlsplit(config.upstream.url).path.encode("ascii"),
                public=urlsplit(auth.base_url).path.encode("ascii"),
            ),
        )

    def render(self, request: Request) -> int:
        """Judge the request, and relay it or say why not."""
        # Twisted types what it renders as its own Request; the wire makes them all of this kind.
        streaming: StreamingRequest = request  # type: ignore[assignment]
        if not prepare(self._cors, streaming, cached=False):
            self._admit(streaming)
        return NOT_DONE_YET

    def end_ended(self) -> None:
        """End, in a moment, what is under way for sessions that have ended; news that follow join in."""
        if not self._ending:
            self._ending = True
            self._clock.callLater(0, self._end_ended)

    def _end_ended(self) -> None:
        self._ending = False
        for exchange in tuple(self._under_way):
            refusal = self._gate.ended(exchange.identity)
            if refusal is not None:
                exchange.log_out(partial(self._refuse_late, refusal=refusal))

    def _refuse_late(self, request: StreamingRequest, refusal: Refusal) -> None:
        path, _ = split_target(request.target)
        self._refuse(request, self._destination(path), refusal)

    def _name_destination(self, path: bytes) -> _Destination:
        return _Destination(path, resource_url(self._base_url, path.decode("ascii")))

    def _admit(self, request: StreamingRequest) -> None:
        route: _Route | None = request.headNotes.get(_ROUTE)
        if route is None or route.target != request.target:
            try:
                route = self._route(request)
            except BadTargetError as error:
                answer_error(request, 400, "invalid_request", str(error), reason=RelayReason.TARGET)
                return
            request.headNotes[_ROUTE] = route
        keys = self._realm.keys
        if keys is None:
            answer_unavailable(request, RelayReason.KEYS)
            return
        verdict = self._judge(route, keys)
        if isinstance(verdict, Refusal) and verdict.reason is Reason.UNKNOWN_KEY:
            self._admit_after_refetch(request, route, verdict)
        else:
            self._settle(request, route, verdict)

    def _route(self, request: StreamingRequest) -> _Route:
        path, query = split_target(request.target)
        # The wire lets no second one through.
        authorization = request.first(b"authorization")
        credentials = () if authorization is None else (authorization,)
        return _Route(
            target=request.target,
            destination=self._destination(path),
            query=query,
            url=self._target.join(path, query),
            authorization=credentials,
            digest=digest_of(credentials),
        )

    def _judge(self, route: _Route, keys: KeySet) -> Identity | Refusal:
        return self._gate.check(
            route.authorization,
            resource=route.destination.resource,
            keys=keys,
            now=self._clock.seconds(),
            digest=route.digest,
        )

    def _admit_after_refetch(self, request: StreamingRequest, route: _Route, refusal: Refusal) -> None:
        """Judge again once the realm has had the chance to bring the key; only this request waits."""
        fetched = self._realm.keysFor(refusal.key_id)
        request.notifyFinish().addErrback(lambda _: fetched.cancel())
        fetched.addCallbacks(
            lambda keys: self._settle(request, route, self._judge(route, keys)),
            lambda failure: self._unavailable(request, RelayReason.KEYS, failure),
        ).addErrback(self._broken, request)

    def _ask(
        self,
        request: StreamingRequest,
        route: _Route,
        verdict: Identity | Refusal,
    ) -> None:
        """Conclude when Keycloak has been asked about a token that is good in all else."""
        if self._asker is None or isinstance(verdict, Refusal):
            self._conclude(request, route, verdict)
            return

        def answered(refusal: Refusal | None) -> None:
            # Meanwhile its time may have run out, as its key's may.
            judged = refusal or self._judge(route, self._realm.keys)
            self._conclude(request, route, judged)

        asked = self._asker.ask(request.first(b"authorization"), verdict)
        request.notifyFinish().addErrback(lambda _: asked.cancel())
        asked.addCallbacks(
            answered, lambda failure: self._unavailable(request, RelayReason.INTROSPECTION, failure)
        ).addErrback(self._broken, request)

    def _unavailable(self, request: StreamingRequest, reason: RelayReason, failure: Failure) -> None:
        if failure.check(CancelledError):  # the client has left
            return
        if not failure.check(KeycloakUnavailable):
            self._log.failure("asking Keycloak failed", failure, request_id=request.requestId)
        answer_unavailable(request, reason)

    def _broken(self, failure: Failure, request: StreamingRequest) -> None:
        self._log.failure("judging a request failed", failure, request_id=request.requestId)
        request.abort()

    def _conclude(
        self,
        request: StreamingRequest,
        route: _Route,
        verdict: Identity | Refusal,
    ) -> None:
        if isinstance(verdict, Refusal):
            self._refuse(request, route.destination, verdict)
            return
        request.notes["subject"] = verdict.subject
        request.notes["client"] = verdict.client
        if route.identity is not verdict or self._rules.by_length:
            route.identity = verdict
            route.headers = RawHeaders(self._rules.outgoing(self._inbound(request, route, verdict)))
        exchange = Exchange(self._relay, request, verdict, partial(self._challenge, route.destination))
        exchange.start(route.url, route.headers)

    def _inbound(self, request: StreamingRequest, route: _Route, identity: Identity) -> Inbound:
        host = peer_address(request)
        return Inbound(
            pairs=request.rawHeaders,
            query=route.query or b"",
            peer=host.encode("latin-1"),
            trusted=host in self._trusted,
            secure=request.channel.isSecure(),
            claims=identity.claims,
        )

    def _refuse(self, request: StreamingRequest, destination: _Destination, refusal: Refusal) -> None:
        log = self._log.debug if refusal.reason is Reason.MISSING else self._log.info
        log(
            "refused a token",
            reason=refusal.reason.value,
            detail=refusal.detail,
            request_id=request.requestId,
        )
        header = challenge(
            refusal, metadata_url=self._metadata_url(destination), scopes=self._required_scopes
        )
        answer_error(
            request,
            status(refusal),
            error_code(refusal) or "unauthorized",
            refusal.description,
            reason=refusal.reason,
            headers=[(b"WWW-Authenticate", header.encode("ascii"))],
        )

    def _challenge(self, destination: _Destination, theirs: Sequence[bytes]) -> bytes:
        """Return this proxy's challenge with what the upstream's own one meant carried over."""
        return carried_challenge(
            (value.decode("latin-1") for value in theirs),
            metadata_url=self._metadata_url(destination),
            scopes=self._required_scopes,
        ).encode("ascii")

    def _metadata_url(self, destination: _Destination) -> str:
        return metadata_url(self._base_url, destination.path.decode("ascii"))
