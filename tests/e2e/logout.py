"""A session that ends at Keycloak ends everywhere, black box: started replicas, their store, open streams."""

from __future__ import annotations

import tempfile
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.e2e.application import Application, document
from tests.e2e.flow import FlowCase
from tests.keycloak_contract.harness import unverified
from tests.support.program import wait_until
from tests.support.proxy import Proxy
from tests.support.redis import RedisServer, shared_server


class LogoutCase(FlowCase):
    """Starts replicas with a store, and opens streams at them."""

    async def replica(self, store: str, *, workers: int = 1, **auth: str) -> Proxy:
        """Start one with a store."""
        configuration = self.configuration(**auth)
        configuration |= {"store": {"url": store}, "server": {"workers": workers}}
        return await self.started(Proxy(configuration))

    def sqlite(self) -> str:
        """Return the URL of a store in a file."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        return f"sqlite://{directory.name}/store.db"

    async def listen(self, application: Application, proxy: Proxy, token: str) -> Deferred[bytes]:
        """Begin an MCP session and open its event stream at ``proxy``; it is open when this returns."""
        application.mcp_url = proxy.mcp_url
        begun = await application.call(token)
        self.assert_initialized(begun)
        status, ended = await application.http.listen(
            proxy.mcp_url,
            **{"Authorization": f"Bearer {token}", "Mcp-Session-Id": begun.header("mcp-session-id") or ""},
        )
        self.assertEqual(status, 200)
        self.assertFalse(ended.called)
        return ended

    async def assert_out(self, application: Application, tokens: dict[str, Any], proxy: Proxy) -> None:
        """Neither token is worth anything at ``proxy``."""
        application.mcp_url = proxy.mcp_url
        self.assert_refused(await application.call(tokens["access_token"]))
        application.metadata["token_endpoint"] = f"{proxy.base_url}/oauth/token"
        refused = document(await application.refresh(tokens["refresh_token"]), 400)
        self.assertEqual(refused["error"], "invalid_grant")


class Logout(LogoutCase):
    """An administrator ends a session in the realm; the logout token goes to one replica."""

    async def log_out(self, store: str) -> None:
        """End one of two sessions while streams are open at both replicas."""
        one = await self.replica(store)
        two = await self.replica(store, baseUrl=one.base_url)
        await self.announce_logouts(f"{two.base_url}/oauth/backchannel-logout")
        application, other = self.application(one), self.application(one)
        tokens, theirs = await application.log_in(), await other.log_in()
        streams = [await self.listen(application, proxy, tokens["access_token"]) for proxy in (one, two)]
        untouched = await self.listen(other, one, theirs["access_token"])
        await self.end_session(unverified(tokens["access_token"])[1]["sid"])
        for stream in streams:
            await stream  # a stream that is cut instead of ended fails here
        three = await self.replica(store, baseUrl=one.base_url)
        for proxy in (one, two, three):
            await self.assert_out(application, tokens, proxy)
        other.mcp_url = one.mcp_url
        self.assert_initialized(await other.call(theirs["access_token"]))
        self.assertFalse(untouched.called, "another session's stream goes on")
        for proxy in (one, two, three):
            self.assertEqual(await deferToThread(proxy.stop), 0)
        await untouched
        self.assertIn("logged out by Keycloak", two.output)
        self.assertNotIn("logged out by Keycloak", one.output)

    async def test_two_replicas_on_sqlite(self) -> None:
        """Both replicas' streams close, and a replica that starts later knows it, through a file."""
        await self.log_out(self.sqlite())

    async def test_two_replicas_on_redis(self) -> None:
        """The same through Redis."""
        await self.log_out(f"redis://127.0.0.1:{shared_server().port}")

    async def test_two_workers(self) -> None:
        """Whichever worker hears of it, streams at both close; signing in again works."""
        proxy = await self.replica("memory://", workers=2)
        await self.announce_logouts(f"{proxy.base_url}/oauth/backchannel-logout")
        application = self.application(proxy)
        tokens = await application.log_in()
        token = tokens["access_token"]
        streams = [await self.listen(self.application(proxy), proxy, token) for _ in range(6)]
        await self.end_session(unverified(token)[1]["sid"])
        for stream in streams:
            await stream
        while self.who_knows(proxy) != {1, 2}:  # a worker that had no stream hears of it a moment later
            await application.call(token)
        await self.assert_out(application, tokens, proxy)
        arrival, pkce = await application.authorize()
        again = document(await application.redeem(arrival.parameters["code"], pkce))
        self.assert_initialized(await application.call(again["access_token"]))

    def who_knows(self, proxy: Proxy) -> set[int]:
        """Return the workers that have ended a stream, or refused a token, because its session has ended."""
        return {line["worker"] for line in proxy.log_lines() if line.get("reason") == "token_session_ended"}

    async def test_revoked(self) -> None:
        """A client that gives its refresh token back is out at once, with its access token and its stream."""
        proxy = await self.replica("memory://")
        application = self.application(proxy)
        tokens = await application.log_in()
        stream = await self.listen(application, proxy, tokens["access_token"])
        self.assertEqual((await application.revoke(tokens["refresh_token"])).status, 200)
        await stream
        await self.assert_out(application, tokens, proxy)


class Forgetting(LogoutCase):
    """A Redis that keeps nothing and is started anew."""

    async def test_redis_forgets_and_replicas_do_not(self) -> None:
        """Who was logged out stays out at a replica that starts afterwards: the other one has told Redis."""
        server = await deferToThread(RedisServer)
        self.addCleanup(deferToThread, server.stop)
        store = f"redis://127.0.0.1:{server.port}"
        one = await self.replica(store)
        await self.announce_logouts(f"{one.base_url}/oauth/backchannel-logout")
        application = self.application(one)
        tokens = await application.log_in()
        stream = await self.listen(application, one, tokens["access_token"])
        await self.end_session(unverified(tokens["access_token"])[1]["sid"])
        await stream
        await deferToThread(server.kill)
        await deferToThread(server.start)

        def told_again() -> bool:
            return bool(server.client().keys("mcp-oauth2-proxy:ending:*:0"))

        await deferToThread(wait_until, told_again, "the replica writes it down again", 30, one.program)
        two = await self.replica(store, baseUrl=one.base_url)
        for proxy in (one, two):
            await self.assert_out(application, tokens, proxy)
