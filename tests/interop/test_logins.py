"""Cases with a login: codes, tokens, refreshes, restarts and outages, at the embedded provider."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from tests.clients.engine import Replay, basic
from tests.clients.profile import profiles
from tests.clients_real.scene import ClientCase
from tests.clients_real.test_npm import driver
from tests.e2e.application import document
from tests.support.browser import Answer
from tests.support.proxy import Proxy
from tests.support.reactor import global_reactor

PROFILES = profiles()


class LoginCase(ClientCase):
    """One started proxy, and clients by their profiles."""

    async def client(self, proxy: Proxy, profile: str = "cursor", **changes: Any) -> Replay:
        """Return a client that has registered."""
        client = Replay(PROFILES[profile], proxy.mcp_url, global_reactor())
        await client.discover()
        await client.register()
        return client

    async def tokens_of(self, client: Replay, **resources: str) -> dict[str, Any]:
        """Log in and redeem; ``resources`` are the parameters of the two legs."""
        answer, pkce = await client.authorize()
        return document(await client.redeem(answer["code"], pkce))


class Restarts(LoginCase):
    """What a restart takes away."""

    async def test_interop_13_registrations_stay(self) -> None:
        """An old ``client_id`` works at the next process."""
        proxy = await self.proxy()
        client = await self.client(proxy)
        await self.restarted(proxy)
        self.assertIn("access_token", await self.tokens_of(client))

    async def test_interop_14_a_forgotten_client(self) -> None:
        """The TypeScript SDK registers once more, and only once, and goes on."""
        self.changed = {"sealingKeys": ["another key that seals all things anew"]}
        done = await self.drive(await driver("sdk"))
        self.assertEqual((done["registrations"], done["logins"]), (2, 2))
        self.assertEqual(json.loads(done["again"]["text"])["x-user"], "alice")

    async def restarted(self, proxy: Proxy) -> Proxy:
        """Restart, with another configuration where a test has one."""
        self.assertEqual(await deferToThread(proxy.stop), 0)
        return await self.proxy(port=proxy.port, **getattr(self, "changed", {}))


class Resources(LoginCase):
    """RFC 8707 as clients spell it."""

    async def test_interop_15_16_17_19_spellings(self) -> None:
        """Root with a slash, legs that differ by it, the origin for a path, none: never a useless token."""
        proxy = await self.proxy()
        for legs in (
            {"authorize": "origin/", "token": "origin/"},
            {"authorize": "origin", "token": "origin/"},
            {"authorize": "origin", "token": "origin"},
            {"authorize": "url", "token": "url"},
            {},
        ):
            client = await self.client(proxy)
            client.profile = evolve(client.profile, resource=legs)
            tokens = await self.tokens_of(client)
            await client.initialize(tokens["access_token"])

    async def test_interop_20_21_success(self) -> None:
        """One ``iss`` on success; no ``state`` for a client that sent none."""
        client = await self.client(await self.proxy())
        answer, _ = await client.authorize()
        self.assertEqual(answer["iss"], client.metadata["issuer"])
        self.assertNotIn("state", answer)


class Secrets(LoginCase):
    """How clients prove themselves."""

    async def test_interop_25_empty_basic_first(self) -> None:
        """A failed authentication leaves the code for the next try."""
        client = await self.client(await self.proxy(), "claude")
        answer, pkce = await client.authorize()
        form = {"grant_type": "authorization_code", "code": answer["code"], "code_verifier": pkce.verifier}
        url = client.metadata["token_endpoint"]
        first = await client.http.request("POST", url, data=form, headers=basic(client.client_id, ""))
        self.assertEqual((first.status, document(first, 401)["error"]), (401, "invalid_client"))
        self.assertTrue((first.header("www-authenticate") or "").startswith("Basic "))
        secret = {"client_id": client.client_id, "client_secret": client.client_secret}
        self.assertEqual((await client.http.request("POST", url, data={**form, **secret})).status, 200)

    async def test_interop_26_basic_raw_and_encoded(self) -> None:
        """A secret with ``+/=%`` in it verifies either way; so does the client_id."""
        name, secret = "a+b/c=d%41", "s+e/c=r%2Be t! and more"
        client_uri = "http://127.0.0.1/cb"
        known = {"clientId": name, "clientSecret": secret, "redirectUris": [client_uri]}
        proxy = await self.proxy(clients=[known])
        client = Replay(PROFILES["typescript-sdk"], proxy.mcp_url, global_reactor())
        await client.discover()
        for user, password in (
            (name, secret),
            (quote_plus(name), quote_plus(secret)),
            (quote(name, safe=""), quote(secret, safe="")),
        ):
            form = {"grant_type": "authorization_code", "code": "x", "code_verifier": "y" * 43}
            url = client.metadata["token_endpoint"]
            answer = await client.http.request("POST", url, data=form, headers=basic(user, password))
            self.assertEqual(
                document(answer, 400)["error"], "invalid_grant", "the client is proven, the code is not"
            )
        wrong = base64.b64encode(f"{name}:wrong".encode()).decode()
        answer = await client.http.request(
            "POST", url, data=form, headers={"Authorization": f"Basic {wrong}"}
        )
        self.assertEqual(answer.status, 401)


class Refreshing(LoginCase):
    """Retries, races and outages."""

    async def test_interop_27_28_ten_at_once_and_a_retry(self) -> None:
        """One call to the provider, all answers usable; a retry within 30 s hears the same."""
        client = await self.client(await self.proxy())
        token = (await self.tokens_of(client))["refresh_token"]
        provider = self.provider.double.realms["mcp"].grants
        calls: list[str] = []
        refresh = provider._by_refresh

        def counted(form: Any, *rest: Any) -> Any:
            calls.append(form["refresh_token"])
            return refresh(form, *rest)

        self.patch(provider, "_by_refresh", counted)
        answers: list[Answer] = await gatherResults(
            [Deferred.fromCoroutine(client.refresh(token)) for _ in range(10)]
        )
        found = [document(answer) for answer in answers]
        self.assertEqual(len(calls), 1)
        self.assertEqual({one["refresh_token"] for one in found}, {found[0]["refresh_token"]})
        for one in found[:2]:
            await client.initialize(one["access_token"])
        retried = document(await client.refresh(token))
        self.assertEqual(retried["refresh_token"], found[0]["refresh_token"])
        self.assertEqual(len(calls), 1)
        document(await client.refresh(retried["refresh_token"]))

    async def test_interop_29_keycloak_down(self) -> None:
        """503 that says try again, never ``invalid_grant``, which would throw the session away."""
        client = await self.client(await self.proxy())
        token = (await self.tokens_of(client))["refresh_token"]
        await self.provider.stop()
        answer = await client.refresh(token)
        self.assertEqual(document(answer, 503)["error"], "temporarily_unavailable")
        self.assertTrue(answer.header("retry-after"))
