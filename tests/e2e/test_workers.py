"""A login whose steps are answered by different processes of one service."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from tests.e2e.application import CALLBACK, Application, document
from tests.e2e.test_double import OnTheDouble
from tests.support.documents import DocumentHost
from tests.support.reactor import global_reactor

LOGINS = 20
STEPS = {"/oauth/register", "/oauth/authorize", "/oauth/consent", "/oauth/callback", "/oauth/token"}


class Workers(OnTheDouble):
    """Two workers with the default store; every step has a connection of its own, as each browser's may."""

    settings = {"server": {"workers": 2}}

    async def log_in(self, application: Application) -> dict[str, Any]:
        """Log in, refresh, refresh once more as if the answer had been lost, and call."""
        tokens = await application.log_in()
        first = document(await application.refresh(tokens["refresh_token"]))
        again = document(await application.refresh(tokens["refresh_token"]))
        self.assertEqual(first, again, "a retry is answered alike, whoever answers")
        self.assert_initialized(await application.call(first["access_token"]))
        return first

    async def test_many_logins(self) -> None:
        """All succeed, though most have been at both; a code that one has redeemed the other refuses."""
        proxy = await self.proxy()
        applications = [self.application(proxy) for _ in range(LOGINS)]
        tokens = await gatherResults(
            [Deferred.fromCoroutine(self.log_in(application)) for application in applications]
        )
        self.assertEqual(len({found["access_token"] for found in tokens}), LOGINS)
        application = applications[0]
        arrival, pkce = await application.authorize()
        answers = [await application.redeem(arrival.parameters["code"], pkce) for _ in range(6)]
        self.assertEqual([answer.status for answer in answers], [200] + [400] * 5)
        self.assertEqual(await deferToThread(proxy.stop), 0)
        asked = [line for line in proxy.log_lines() if line.get("path") in STEPS]
        for worker in (1, 2):
            self.assertGreater(len([line for line in asked if line["worker"] == worker]), LOGINS // 4)
        pairs = {(line["path"], line["worker"]) for line in asked}
        shared = [step for step in STEPS if {(step, 1), (step, 2)} <= pairs]
        self.assertGreater(len(shared), len(STEPS) // 2, "most steps were answered by both")

    async def test_logins_by_document(self) -> None:
        """A client's metadata document is fetched by whoever needs it."""
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
