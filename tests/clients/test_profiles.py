"""Every client profile, replayed: by its registration, and by its metadata document where it has one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.engine import STATE, Replay
from tests.clients.profile import Profile, profiles, read_profile, with_clients
from tests.clients_real.scene import ClientCase
from tests.e2e.application import document
from tests.keycloak_contract.harness import Pkce
from tests.support.browser import Browser
from tests.support.documents import DocumentHost
from tests.support.program import REPOSITORY
from tests.support.reactor import global_reactor


class Profiles(ClientCase):
    """``test_CLIENT`` and ``test_CLIENT_by_document``: added below, one for each file."""

    async def replay(self, profile: Profile, *, by_document: bool) -> None:
        """Everything that the client does, in its order."""
        settings: dict[str, Any] = {"scopesSupported": ["openid", "profile", "email", "offline_access"]}
        document_url = None
        if by_document:
            host = DocumentHost(global_reactor())
            self.addCleanup(host.stop)
            document_url = host.publish("/client.json", **(profile.document or {}))
            settings["cimd"] = host.settings
        proxy = await self.proxy(oidcScopes=None, **settings)
        client = Replay(profile, proxy.mcp_url, global_reactor(), document_url)
        await self.finds_its_way(client)
        await self.is_known(client)
        tokens = await self.logs_in(client)
        await self.works(client, tokens)
        await self.is_not_led_astray(client)

    async def finds_its_way(self, client: Replay) -> None:
        """A real 401 with the challenge, and documents that say what the client compares."""
        for answer in await client.probe():
            challenge = answer.header("www-authenticate") or ""
            self.assertEqual(answer.status, 401, answer.method)
            self.assertIn("resource_metadata=", challenge)
            self.assertEqual(answer.body == b"", answer.method == "HEAD")
        for answer in await client.discover():
            self.assertEqual(answer.status, 200)
        if client.resource:
            self.assertEqual(client.resource["resource"], client.mcp_url)
            self.assertEqual(client.resource["authorization_servers"], [client.metadata["issuer"]])
        self.assertEqual(client.metadata["code_challenge_methods_supported"], ["S256"])

    async def is_known(self, client: Replay) -> None:
        """The registration is echoed, with a secret exactly where the client can have one."""
        registered = await client.register()
        if client.document_url is not None:
            return
        asked = client.profile.registration
        self.assertEqual(registered["redirect_uris"], asked["redirect_uris"])
        self.assertNotIn(None, registered.values())
        method = asked.get("token_endpoint_auth_method") or "client_secret_basic"
        self.assertEqual(registered["token_endpoint_auth_method"], method)
        self.assertEqual("client_secret" in registered, method != "none")
        self.assertEqual("client_secret_expires_at" in registered, method != "none")
        self.assertLessEqual(set(registered["grant_types"]), {"authorization_code", "refresh_token"})

    async def logs_in(self, client: Replay) -> dict[str, Any]:
        """The person's login leads back with what the client sent, and the code gives tokens."""
        answer, pkce = await client.authorize()
        self.assertEqual(answer.get("state"), STATE if client.profile.state else None)
        self.assertEqual(answer["iss"], client.metadata["issuer"])
        tokens = document(await client.redeem(answer["code"], pkce))
        self.assertEqual(tokens["token_type"], "Bearer")
        return tokens

    async def works(self, client: Replay, tokens: dict[str, Any]) -> None:
        """The MCP server answers, before and after a refresh."""
        self.assertEqual((await client.initialize(tokens["access_token"]))["serverInfo"]["name"], "sample")
        refreshed = document(await client.refresh(tokens["refresh_token"]))
        self.assertIn("refresh_token", refreshed)
        await client.initialize(refreshed["access_token"])

    async def is_not_led_astray(self, client: Replay) -> None:
        """A client that is not known hears it: 401 to itself, and a page to its person."""
        client.client_id, client.client_secret = "forgotten", None
        refused = await client.redeem("x", Pkce.make())
        self.assertEqual((refused.status, document(refused, 401)["error"]), (401, "invalid_client"))
        page = await Browser(global_reactor()).request("GET", client.authorize_url(Pkce.make()))
        self.assertEqual((page.status, page.header("location")), (400, None))
        self.assertIn("add it again", page.text)


def _test(profile: Profile, by_document: bool) -> Callable[[Profiles], Awaitable[None]]:
    async def test(self: Profiles) -> None:
        await self.replay(profile, by_document=by_document)

    test.__doc__ = f"{profile.name}{', by its metadata document' if by_document else ''}."
    return test


for _name, _profile in profiles().items():
    _method = "test_" + _name.replace("-", "_")
    setattr(Profiles, _method, _test(_profile, by_document=False))
    if _profile.document is not None:
        setattr(Profiles, f"{_method}_by_document", _test(_profile, by_document=True))


class Files(SynchronousTestCase):
    """What a file may say."""

    def refused(self, text: str) -> str:
        with TemporaryDirectory() as directory:
            path = Path(directory) / "client.yaml"
            path.write_text(text, encoding="utf-8")
            return str(self.assertRaises(ValueError, read_profile, path))

    def test_mistakes(self) -> None:
        """A file that says something else is refused with its name and what is wrong."""
        good = (REPOSITORY / "tests" / "clients" / "cursor.yaml").read_text(encoding="utf-8")
        self.assertIn("client.yaml has ['nmae']", self.refused(good.replace("name:", "nmae:", 1)))
        self.assertIn("client.yaml:", self.refused("name: x\n"))
        self.assertIn("secret is 'ring'", self.refused(good + "secret: ring\n"))
        self.assertIn("resource has token", self.refused(good.replace("token: url", "token: href")))

    def test_the_page_is_current(self) -> None:
        """docs/clients.md is made from the files."""
        page = (REPOSITORY / "docs" / "clients.md").read_text(encoding="utf-8")
        self.assertEqual(page, with_clients(page))
