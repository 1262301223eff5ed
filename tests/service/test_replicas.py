"""Two started replicas of one proxy, with one store, in front of an identity provider that counts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from tests.e2e.application import CALLBACK, Application, document
from tests.keycloak_contract.harness import Pkce
from tests.support.browser import Answer, Browser
from tests.support.documents import DocumentHost
from tests.support.double import RunningDouble
from tests.support.keycloak import CREDENTIALS as C
from tests.support.proxy import Proxy
from tests.support.reactor import global_reactor
from tests.support.redis import shared_server


class HeldToken(Resource):
    """A token endpoint that counts refreshes, does them at once, and keeps the answers back when told to."""

    isLeaf = True

    def __init__(self, inner: Resource) -> None:
        super().__init__()
        self._inner = inner
        self.refreshes = 0
        #: While it holds: fires when a refresh has been done; its answer is sent by :meth:`let_go`.
        self.done: Deferred[None] | None = None
        self._kept: list[Callable[[], None]] = []

    def render(self, request: Request) -> Any:
        assert request.content is not None
        is_refresh = b"grant_type=refresh_token" in request.content.read()
        request.content.seek(0)
        answer = self._inner.render(request)
        if not is_refresh:
            return answer
        self.refreshes += 1
        if self.done is None:
            return answer
        gone: list[object] = []
        request.notifyFinish().addBoth(gone.append)

        def send() -> None:
            if not gone:
                request.write(answer)
                request.finish()

        self._kept.append(send)
        if not self.done.called:
            self.done.callback(None)
        return NOT_DONE_YET

    def let_go(self) -> None:
        """Send what was kept back, and keep nothing back any more."""
        self.done = None
        kept, self._kept = self._kept, []
        for send in kept:
            send()


class ReplicaCase(TestCase):
    """Starts the provider and two replicas; a client that has logged in at the first."""

    timeout = 120

    def provider(self, **realm: Any) -> RunningDouble:
        """Return a provider that runs until the test ends."""
        provider = RunningDouble(global_reactor(), **realm)
        self.addCleanup(provider.stop)
        return provider

    async def start(self, store: str, **realm: Any) -> None:
        provider = self.provider(**realm)
        connect: Resource = provider.double
        for name in (b"realms", C.realm.encode(), b"protocol", b"openid-connect"):
            connect = connect.children[name]
        self.token = HeldToken(connect.children[b"token"])
        connect.putChild(b"token", self.token)
        self.one = self.replica(provider.issuer(), store)
        self.two = self.replica(provider.issuer(), store, baseUrl=self.one.base_url)
        for proxy in (self.one, self.two):
            await deferToThread(proxy.wait_until_ready)
        self.application = Application(global_reactor(), self.one.mcp_url)
        self.refresh_token: str = (await self.application.log_in())["refresh_token"]

    def replica(self, issuer: str, store: str, **auth: Any) -> Proxy:
        client = {"clientId": C.client_id, "clientSecret": C.client_secret}
        proxy = Proxy(
            {
                "upstream": {"url": "http://127.0.0.1:1"},
                "auth": {"issuerUrl": issuer, **client, **auth},
                "store": {"url": store},
                # What is under way when one is stopped ends when the test says so.
                "server": {"shutdownGrace": "20s"},
            }
        )
        self.addCleanup(deferToThread, proxy.stop)
        return proxy

    def sqlite(self) -> str:
        """Return the URL of a store in a file."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        return f"sqlite://{directory.name}/store.db"

    def redis(self) -> str:
        """Return the URL of a store in Redis."""
        return f"redis://127.0.0.1:{shared_server().port}"

    def refresh(self, proxy: Proxy) -> Deferred[Answer]:
        """Use the refresh token at one replica."""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self.refresh_token,
            "client_id": self.application.client_id,
        }
        asked = Browser(global_reactor()).request("POST", f"{proxy.base_url}/oauth/token", data=form)
        return Deferred.fromCoroutine(asked)


class Refreshing(ReplicaCase):
    """One refresh token at both replicas at the same time."""

    async def share(self, store: str) -> None:
        await self.start(store)
        self.token.done = working = Deferred()
        attempts = [self.refresh(proxy) for _ in range(5) for proxy in (self.one, self.two)]
        await working
        for proxy in (self.one, self.two):
            self.assertEqual((await deferToThread(proxy.health))[0], 200)
        self.token.let_go()
        answers = [document(answer) for answer in await gatherResults(attempts)]
        answers.append(document(await self.refresh(self.two)))
        for name in ("access_token", "refresh_token"):
            self.assertEqual(len({answer[name] for answer in answers}), 1)
        self.assertEqual(self.token.refreshes, 1)
        successor = await self.application.refresh(answers[0]["refresh_token"])
        self.assertEqual(successor.status, 200, "the session lives")

    async def test_ten_at_two_replicas_on_sqlite(self) -> None:
        """Ten callers spread over two processes hear one answer, from one call, through a file."""
        await self.share(self.sqlite())

    async def test_ten_at_two_replicas_on_redis(self) -> None:
        """The same through Redis."""
        await self.share(self.redis())


class Stopping(ReplicaCase):
    """A replica is asked to stop in the middle of a refresh, as in every rolling restart."""

    async def test_its_caller_has_left(self) -> None:
        """It waits for Keycloak's answer and writes it down; the retry at the other replica hears it."""
        await self.start(self.sqlite())
        self.token.done = done = Deferred()
        leaving = self.refresh(self.one)
        await done
        leaving.cancel()
        await self.assertFailure(leaving, Exception)
        await deferToThread(self.one.program.wait_for, "aborted=true", 20)
        stopping = deferToThread(self.one.stop)
        await deferToThread(self.one.program.wait_for, "stopping: ", 20)
        self.token.let_go()
        self.assertEqual(await stopping, 0)
        self.assertIn("access_token", document(await self.refresh(self.two)))
        self.assertEqual(self.token.refreshes, 1)


class Dying(ReplicaCase):
    """A replica is killed when Keycloak has refreshed and the answer is on its way."""

    async def retry(self, store: str, **realm: Any) -> Answer:
        await self.start(store, **realm)
        self.token.done = done = Deferred()
        lost = self.refresh(self.one)
        await done
        self.token.done = None
        self.one.program.kill()
        answer = await self.refresh(self.two)
        await self.assertFailure(lost, Exception)
        self.assertEqual(self.token.refreshes, 2)
        return answer

    async def test_without_rotation(self) -> None:
        """The client repeats its refresh at the other replica and gets tokens."""
        answer = await self.retry(self.redis(), rotate_refresh_tokens=False)
        self.assertIn("access_token", document(answer))

    async def test_with_rotation_and_one_reuse(self) -> None:
        """So it does where the realm lets a token be used once more, as docs/store.md recommends."""
        answer = await self.retry(self.sqlite(), refresh_token_max_reuse=1)
        self.refresh_token = document(answer)["refresh_token"]
        self.assertEqual((await self.refresh(self.two)).status, 200, "the session lives")

    async def test_with_rotation(self) -> None:
        """Nobody has the new token, and Keycloak takes the old one for stolen: the person signs in again."""
        answer = await self.retry(self.sqlite())
        self.assertEqual((answer.status, json.loads(answer.body)["error"]), (400, "invalid_grant"))


class ByDocument(ReplicaCase):
    """A client whose metadata document the first replica has fetched, and whose host is down since then."""

    async def log_in(self, proxy: Proxy, client_id: str) -> int:
        """Log in at ``proxy``; return the status of the token's answer, or of the page without a way on."""
        await deferToThread(proxy.wait_until_ready)
        application = Application(global_reactor(), proxy.mcp_url)
        await application.discover()
        application.client_id = client_id
        page = await application.browser.request("GET", application.authorize_url(Pkce.make(), "state"))
        if page.status != 200:
            return page.status
        arrival, pkce = await application.authorize()
        return (await application.redeem(arrival.parameters["code"], pkce)).status

    async def test_by_the_copy_in_the_store(self) -> None:
        """A replica that starts then logs its users in; one with a store of its own cannot."""
        issuer, store = self.provider().issuer(), self.redis()
        host = DocumentHost(global_reactor())
        self.addCleanup(host.stop)
        client_id = host.publish("/c.json", redirect_uris=[CALLBACK])
        first = self.replica(issuer, store, cimd=host.settings)
        self.assertEqual(await self.log_in(first, client_id), 200)
        self.assertEqual(await deferToThread(first.stop), 0)
        host.status = 503
        for its_store, status in ((store, 200), ("memory://", 503)):
            fresh = self.replica(issuer, its_store, cimd=host.settings)
            self.assertEqual(await self.log_in(fresh, client_id), status, its_store)
        self.assertEqual(host.asked, ["/c.json"] * 2, "once by the first, and by the one without its copy")
