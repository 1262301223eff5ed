"""The demo's stage: identity provider in this process, MCP server and proxy as children, on free ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from twisted.internet import asyncioreactor
from twisted.internet.defer import Deferred
from twisted.web.http import Request
from twisted.web.server import Site

from mcp_oauth2_proxy.demo.children import Child, ChildFailedError, python_child
from mcp_oauth2_proxy.demo.exchange import Exchange, Observer
from mcp_oauth2_proxy.demo.idp import KeycloakDouble
from mcp_oauth2_proxy.demo.logout import Delivery
from mcp_oauth2_proxy.demo.narration import Narrator
from mcp_oauth2_proxy.demo.realm import Client, RealmDefinition, User
from mcp_oauth2_proxy.demo.walkthrough import walk_through

USER = User("alice", "wonderland", "alice@example.com", "Alice", "Example")
_REALM = "demo"
_CLIENT_ID = "mcp-proxy"
#: Seconds each part may take to get ready on a slow machine.
_START_TIMEOUT = 60.0
#: Seconds between two looks at the proxy's readiness.
_READY_POLL = 0.1
_MUTATIONS = [
    {"action": "add", "name": "X-User", "valueFrom": {"claim": "preferred_username"}},
    {"action": "add", "name": "X-Email", "valueFrom": {"claim": "email"}},
    {"action": "add", "name": "X-Forwarded-By", "value": "mcp-oauth2-proxy"},
    {"action": "remove", "name": "Authorization"},
]


class _ObservedSite(Site):
    """Tells of the proxy's own requests; the browser's are told by the browser."""

    def __init__(self, root: KeycloakDouble, reactor: Any, observer: Observer) -> None:
        Site.__init__(self, root, reactor=reactor)
        self._observer = observer

    def log(self, request: Request) -> None:
        """Take the place of the access log."""
        url = request.uri.decode("ascii", "replace")
        if "/protocol/openid-connect/auth" not in url and "/login-actions/" not in url:
            self._observer(Exchange("proxy", request.method.decode("ascii"), url, request.code))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def proxy_settings(port: int, *, upstream: str, issuer: str, secret: str) -> dict[str, str]:
    """Return the proxy's whole configuration as environment variables: no file is needed."""
    settings = {
        "SERVER_LISTENADDRESS": f"127.0.0.1:{port}",
        "UPSTREAM_URL": upstream,
        "HEADERS_MUTATIONS": json.dumps(_MUTATIONS),
        "AUTH_BASEURL": f"http://127.0.0.1:{port}",
        "AUTH_ISSUERURL": issuer,
        "AUTH_CLIENTID": _CLIENT_ID,
        "AUTH_CLIENTSECRET": secret,
        "AUTH_OIDCSCOPES": "openid,profile,email",
    }
    return {f"MCP_OAUTH2_PROXY_{name}": value for name, value in settings.items()}


class Stage:
    """One run of the demo."""

    def __init__(self, reactor: Any, narrator: Narrator) -> None:
        self._reactor = reactor
        self._narrator = narrator
        #: Set once the user wants to stop: whatever fails from then on is no failure.
        self.stopping = False

    async def run(self, once: bool) -> int:
        """Play the demo; return the exit code."""
        try:
            async with self._set() as (url, proxy):
                self._narrator.heading("What happens when an MCP client connects")
                await walk_through(self._narrator, url, USER)
                self._narrator.heading("Everything worked.")
                if not once:
                    await self._stay(url, proxy)
        except (Exception, asyncio.CancelledError) as error:
            if self.stopping:
                self._narrator.heading("Stopped.")
                return 0
            self._narrator.heading(f"The demo failed: {explain(error)}")
            return 1
        return 0

    @asynccontextmanager
    async def _set(self) -> AsyncIterator[tuple[str, Child]]:
        """Start the three parts; yields the MCP URL and the proxy."""
        narrator, secret, proxy_port = self._narrator, secrets.token_urlsafe(32), _free_port()
        narrator.heading("Starting")
        realm = RealmDefinition(
            _REALM,
            clients=(
                Client(
                    _CLIENT_ID,
                    secret,
                    ("http://127.0.0.1:*", "http://localhost:*"),
                    logout_url=f"http://127.0.0.1:{proxy_port}/oauth/backchannel-logout",
                ),
            ),
            users=(USER,),
        )
        double = KeycloakDouble(
            [realm], clock=self._reactor, secure_cookies=False, deliver=Delivery(self._reactor)
        )
        site = _ObservedSite(double, self._reactor, narrator.exchange)
        port = self._reactor.listenTCP(0, site, interface="127.0.0.1")
        issuer = f"http://127.0.0.1:{port.getHost().port}/realms/{_REALM}"
        narrator.detail(f"identity provider, behaves like Keycloak:  {issuer}")
        try:
            # An empty directory, so that a config.yaml that lies about does not take part.
            with tempfile.TemporaryDirectory() as scratch:
                directory = Path(scratch)
                arguments = ["-m", "mcp_oauth2_proxy.demo.server"]
                async with python_child("The sample MCP server", arguments, directory) as server:
                    found = await server.line(r"MCP server at (http://\S+)/mcp", _START_TIMEOUT)
                    upstream = found[1]
                    narrator.detail(f"sample MCP server, official SDK:           {upstream}/mcp")
                    async with self._proxy(directory, proxy_port, upstream, issuer, secret) as (url, proxy):
                        yield url, proxy
        finally:
            await self._stopped(port)

    @asynccontextmanager
    async def _proxy(
        self, directory: Path, port: int, upstream: str, issuer: str, secret: str
    ) -> AsyncIterator[tuple[str, Child]]:
        settings = proxy_settings(port, upstream=upstream, issuer=issuer, secret=secret)
        arguments = ["-m", "mcp_oauth2_proxy", "serve"]
        async with python_child("The proxy", arguments, directory, settings) as proxy:
            base_url = f"http://127.0.0.1:{port}"
            self._narrator.detail(f"the proxy in front of it:                  {base_url}/mcp")
            await _until_ready(proxy, base_url)
            yield f"{base_url}/mcp", proxy

    @staticmethod
    async def _stopped(port: Any) -> None:
        """Close a listening port: a Deferred of Twisted's, waited for in an asyncio task."""
        stopping = port.stopListening()
        if stopping is not None:
            await stopping.asFuture(asyncio.get_running_loop())

    async def _stay(self, url: str, proxy: Child) -> None:
        """Show how to connect, then the proxy's log, until the demo is stopped."""
        narrator = self._narrator
        narrator.detail("Now connect your own MCP client (Claude Code, VS Code, Cursor, ...):")
        narrator.detail("")
        narrator.detail(f"  URL        {url}")
        narrator.detail(f"  user       {USER.username}")
        narrator.detail(f"  password   {USER.password}")
        narrator.detail("")
        narrator.detail("Ctrl-C stops the demo. The proxy's log:")
        proxy.follow = narrator.detail
        while not proxy.ended:
            await asyncio.sleep(1)
        raise proxy.failure("ended")


async def _until_ready(proxy: Child, base_url: str) -> None:
    """Wait for ``/readyz``; raises :exc:`ChildFailedError` with its reason when it does not come."""
    reason = "it did not answer"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_TIMEOUT), httpx2.AsyncClient() as http:
            while not proxy.ended:
                with contextlib.suppress(httpx2.TransportError):
                    answer = await http.get(f"{base_url}/readyz")
                    if answer.status_code == 200:
                        return
                    reason = answer.text.strip()
                await asyncio.sleep(_READY_POLL)
    raise proxy.failure("ended" if proxy.ended else f"did not get ready ({reason})")


def explain(error: BaseException) -> str:
    """Return the first real cause in words: task groups wrap it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = str(error) or "no reason given"
    return text if isinstance(error, ChildFailedError) else f"{text} ({type(error).__name__})"


def run_stage(once: bool) -> int:
    """Install an asyncio reactor, which the MCP SDK needs, and run the demo on it."""
    # What goes wrong is told in words; the SDK's own tracebacks would only repeat it.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncioreactor.install(loop)
    from twisted.internet import reactor  # noqa: PLC0415 (it has just been chosen)

    codes: list[int] = []
    stage = Stage(reactor, Narrator.on(sys.stdout))

    def begin() -> None:
        task = loop.create_task(stage.run(once))
        finished: Deferred[None] = Deferred()

        def ended(done: asyncio.Task[int]) -> None:
            codes.append(0 if done.cancelled() else done.result())
            finished.callback(None)
            if not stage.stopping:
                reactor.stop()

        def stop() -> Deferred[None]:
            stage.stopping = True
            task.cancel()
            return finished

        task.add_done_callback(ended)
        reactor.addSystemEventTrigger("before", "shutdown", stop)

    reactor.callWhenRunning(begin)
    reactor.run()
    return codes[0] if codes else 1
