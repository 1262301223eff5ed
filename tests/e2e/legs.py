"""A login whose steps are answered by different processes: workers of one service, or replicas of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from tests.e2e.application import CALLBACK, Application, document
from tests.e2e.flow import FlowCase
from tests.e2e.logout import LogoutCase
from tests.support.browser import Answer, Browser
from tests.support.documents import DocumentHost
from tests.support.proxy import Proxy
from tests.support.reactor import global_reactor
from tests.support.redis import shared_server

STEPS = {"/oauth/register", "/oauth/authorize", "/oauth/consent", "/oauth/callback", "/oauth/token"}


class LegsCase(FlowCase):
    """What a client does with its tokens, wherever it is answered."""

    async def log_in(self, application: Application) -> dict[str, Any]:
        """Log in, refresh, refresh once more as if the answer had been lost, and call."""
        tokens = await application.log_in()
        first = document(await application.refresh(tokens["refresh_token"]))
        again = document(await application.refresh(tokens["refresh_token"]))
        self.assertEqual(first, again, "a retry is answered alike, whoever answers")
        self.assert_initialized(await application.call(first["access_token"]))
        return first


class Workers(LegsCase):
    """Two workers with the default store; every step has a connection of its own, as each browser's may."""

    settings = {"server": {"workers": 2}}
    #: People who log in: enough that most steps are taken at both.
    people = 20

    async def test_many_logins(self) -> None:
        """All succeed, though most have been at both; a code that one has redeemed the other refuses."""
        proxy = await self.proxy()
        applications = self.crowd(proxy, self.people)
        tokens = await gatherResults(
            [Deferred.fromCoroutine(self.log_in(application)) for application in applications]
        )
        self.assertEqual(len({found["access_token"] for found in tokens}), self.people)
        application = applications[0]
        arrival, pkce = await application.authorize()
        answers = [await application.redeem(arrival.parameters["code"], pkce) for _ in range(6)]
        self.assertEqual([answer.status for answer in answers], [200] + [400] * 5)
        self.assertEqual(await deferToThread(proxy.stop), 0)
        asked = [line for line in proxy.log_lines() if line.get("path") in STEPS]
        for worker in (1, 2):
            self.assertGreater(len([line for line in asked if line["worker"] == worker]), self.people // 4)
        pairs = {(line["path"], line["worker"]) for line in asked}
        shared = [step for step in STEPS if {(step, 1), (step, 2)} <= pairs]
        self.assertGreater(len(shared), len(STEPS) // 2, "most steps were answered by both")


class Documents(LegsCase):
    """Two workers, and a client that is described by a document."""

    settings = {"server": {"workers": 2}}

    async def test_logins_by_document(self) -> None:
        """A client's metadata document is fetched by whoever needs it, once by each at most."""
        host = DocumentHost(global_reactor())
        self.addCleanup(host.stop)
        proxy = await self.proxy(cimd=host.settings)
        client_id = host.publish("/c.json", client_name="Paper", redirect_uris=[CALLBACK])
        for _ in range(4):
            application = self.application(proxy)
            await application.discover()
            application.client_id = client_id
            arrival, pkce = await application.authorize()
            document(await application.redeem(arrival.parameters["code"], pkce))
        self.assertLessEqual(len(host.asked), 2)


class _Spread(Browser):
    """Requests for the proxy go to the next replica each time, as a balancer without memory has it."""

    def __init__(self, base_url: str, turns: Iterator[Proxy]) -> None:
        super().__init__(global_reactor())
        self._base_url = base_url
        self._turns = turns

    async def request(self, method: str, url: str, **options: Any) -> Answer:
        """Make one request, following nothing."""
        if not url.startswith(f"{self._base_url}/"):
            return await super().request(method, url, **options)
        elsewhere = next(self._turns).base_url + url.removeprefix(self._base_url)
        return evolve(await super().request(method, elsewhere, **options), url=url)


class Replicas(LegsCase, LogoutCase):
    """Two replicas with one store; no two requests in a row come to the same."""

    async def test_elsewhere_each_time(self) -> None:
        """Two logins take each step at both; a code that one has redeemed the other refuses."""
        store = f"redis://127.0.0.1:{shared_server().port}"
        one = await self.replica(store)
        two = await self.replica(store, baseUrl=one.base_url)
        for order in ((one, two), (two, one)):
            turns = cycle(order)
            application = self.application(one, browser=_Spread(one.base_url, turns))
            application.http = _Spread(one.base_url, turns)
            await self.log_in(application)
            arrival, pkce = await application.authorize()
            answers = [await application.redeem(arrival.parameters["code"], pkce) for _ in range(3)]
            self.assertEqual([answer.status for answer in answers], [200, 400, 400])
        for proxy in (one, two):
            self.assertEqual(await deferToThread(proxy.stop), 0)
            self.assertEqual({line.get("path") for line in proxy.log_lines()} & STEPS, STEPS)
