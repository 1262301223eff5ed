"""The whole product as its users meet it, black box: the started program, a real MCP server, and a realm.

Every test runs on a real Keycloak, and on the embedded identity provider so that a machine without Java
still sees the flow. The program is started anew for each test.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.protocols.portforward import ProxyFactory

from mcp_oauth2_proxy.demo.client import mcp_client
from mcp_oauth2_proxy.demo.exchange import Exchange
from mcp_oauth2_proxy.facade.grants import RefreshGrant
from mcp_oauth2_proxy.facade.sealing import Sealer
from mcp_oauth2_proxy.facade.spent import GRACE
from tests.e2e.application import CALLBACK, Application, document
from tests.keycloak_contract.harness import ContractCase, Pkce
from tests.support.browser import Answer, Browser, Crowd
from tests.support.documents import DocumentHost
from tests.support.keycloak import CREDENTIALS as C
from tests.support.program import free_port
from tests.support.proxy import Proxy
from tests.support.reactor import LaterReactor, global_reactor
from tests.support.service import start_service
from tests.support.upstream import sample_server

#: Seconds within which the proxy has noticed that Keycloak is back.
_HEALING = 60


class FlowCase(ContractCase):
    """Starts the program in front of the sample MCP server, with ``issuer`` behind it."""

    timeout = 180
    #: More sections of the program's configuration.
    settings: Mapping[str, Any] = {}

    def rotate_keys(self) -> None:
        """Give the realm a new signing key."""
        raise NotImplementedError

    def configuration(self, **auth: Any) -> dict[str, Any]:
        """Return a configuration; ``auth`` adds settings of that section, ``None`` takes one out."""
        configuration: dict[str, Any] = {
            "upstream": {"url": sample_server()},
            "headers": {
                "mutations": [
                    {
                        "action": "add",
                        "name": "X-User",
                        "valueFrom": {"claim": "preferred_username"},
                    },
                    {"action": "remove", "name": "Authorization"},
                ]
            },
            "auth": {
                "issuerUrl": self.issuer,
                "clientId": C.client_id,
                "clientSecret": C.client_secret,
                "oidcScopes": ["openid", "profile", "email"],
                **auth,
            },
            "log": {"level": "DEBUG", "format": "json"},
            **self.settings,
        }
        configuration["auth"] = {
            name: value for name, value in configuration["auth"].items() if value is not None
        }
        return configuration

    async def proxy(self, *, wait: bool = True, port: int | None = None, **auth: Any) -> Proxy:
        """Start the program with this :meth:`configuration`."""
        return await self.started(Proxy(self.configuration(**auth), port=port), wait=wait)

    async def started(self, proxy: Proxy, *, wait: bool = True) -> Proxy:
        """Return ``proxy`` when it is ready, and stop it after the test."""
        self.addCleanup(deferToThread, proxy.stop)
        if wait:
            # In a thread: the realm behind the proxy may be served by this very reactor.
            await deferToThread(proxy.wait_until_ready)
        return proxy

    def application(self, proxy: Proxy, **options: Any) -> Application:
        """Return a new client application for the proxy's MCP server."""
        return Application(global_reactor(), proxy.mcp_url, **options)

    def crowd(self, proxy: Proxy, people: int) -> list[Application]:
        """Return applications of so many people who log in at the same time."""
        crowd = Crowd(global_reactor())
        browsers = (Browser(global_reactor(), crowd=crowd) for _ in range(people))
        return [self.application(proxy, browser=browser) for browser in browsers]

    def assert_initialized(self, answer: Answer) -> None:
        """The MCP server itself has answered ``initialize``, as an event stream."""
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual((answer.header("content-type") or "").split(";")[0], "text/event-stream")
        data = next(line for line in answer.text.splitlines() if line.startswith("data: {"))
        self.assertEqual(json.loads(data[6:])["result"]["serverInfo"]["name"], "sample")

    def assert_refused(self, answer: Answer) -> None:
        """The proxy has refused a token: 401, ``invalid_token``, and the way to a better one."""
        challenge = answer.header("www-authenticate") or ""
        self.assertEqual(answer.status, 401)
        self.assertTrue(challenge.startswith("Bearer "), challenge)
        self.assertIn('error="invalid_token"', challenge)
        self.assertIn("/.well-known/oauth-protected-resource/mcp", challenge)


class Flow(FlowCase):
    """Logging in, and what the tokens are good for."""

    async def test_from_url_to_answer(self) -> None:
        """A client that knows only the MCP URL discovers, registers, logs its user in, and gets an answer."""
        proxy = await self.proxy()
        application = self.application(proxy)
        resource = await application.discover()
        self.assertEqual(resource["resource"], proxy.mcp_url)
        self.assertEqual(application.metadata["issuer"], proxy.base_url)
        registered = await application.register()
        self.assertNotIn("client_secret", registered)
        arrival, pkce = await application.authorize()
        pages = [answer for answer in arrival.trail if answer.page.forms]
        self.assertIn("The end-to-end test", pages[0].text, "the consent page names the client")
        self.assertTrue(pages[1].url.startswith(self.issuer), "then Keycloak's own form")
        answer = await application.redeem(arrival.parameters["code"], pkce)
        self.assertEqual(answer.header("cache-control"), "no-store")
        tokens = document(answer)
        self.assertEqual(tokens["token_type"].lower(), "bearer")
        self.assert_initialized(await application.call(tokens["access_token"]))

    async def test_a_code_works_once(self) -> None:
        """The second use of the proxy's code is ``invalid_grant``."""
        application = self.application(await self.proxy())
        await application.discover()
        await application.register()
        arrival, pkce = await application.authorize()
        self.assertEqual((await application.redeem(arrival.parameters["code"], pkce)).status, 200)
        again = document(await application.redeem(arrival.parameters["code"], pkce), 400)
        self.assertEqual(again["error"], "invalid_grant")

    async def test_a_wrong_verifier(self) -> None:
        """A stolen code is worth nothing without its PKCE verifier."""
        application = self.application(await self.proxy())
        await application.discover()
        await application.register()
        arrival, _ = await application.authorize()
        answer = document(await application.redeem(arrival.parameters["code"], Pkce.make()), 400)
        self.assertEqual(answer["error"], "invalid_grant")

    async def test_refresh_again_and_again(self) -> None:
        """With rotation on, each refresh gives tokens that work; a lost answer can be fetched again."""
        application = self.application(await self.proxy())
        first = await application.log_in()
        second = document(await application.refresh(first["refresh_token"]))
        self.assertNotEqual(second["access_token"], first["access_token"])
        self.assert_initialized(await application.call(second["access_token"]))
        # A retry within the grace is no theft: the same answer, and the session lives on.
        self.assertEqual(document(await application.refresh(first["refresh_token"])), second)
        third = document(await application.refresh(second["refresh_token"]))
        self.assert_initialized(await application.call(third["access_token"]))

    async def test_a_refresh_token_belongs_to_its_client(self) -> None:
        """Another registered client cannot use it, and the owner still can."""
        proxy = await self.proxy()
        owner, thief = self.application(proxy), self.application(proxy)
        tokens = await owner.log_in()
        await thief.discover()
        await thief.register()
        stolen = document(await thief.refresh(tokens["refresh_token"]), 400)
        self.assertEqual(stolen["error"], "invalid_grant")
        document(await owner.refresh(tokens["refresh_token"]))

    async def test_revoked(self) -> None:
        """A token that was given back is dead, its successors too, here and at Keycloak."""
        application = self.application(await self.proxy())
        first = (await application.log_in())["refresh_token"]
        second = document(await application.refresh(first))["refresh_token"]
        for token in (second, "noise"):
            answer = await application.revoke(token)
            self.assertEqual((answer.status, answer.body), (200, b""))
        for token in (first, second):
            refused = document(await application.refresh(token), 400)
            self.assertEqual(refused["error"], "invalid_grant")

    async def test_the_second_login_asks_nothing(self) -> None:
        """In the same browser consent is remembered and single sign-on does the rest: no form at all."""
        application = self.application(await self.proxy())
        await application.log_in()
        arrival, _ = await application.authorize()
        self.assertEqual([answer.url for answer in arrival.trail if answer.page.forms], [])

    async def test_two_clients_of_one_person(self) -> None:
        """Two apps in one browser share Keycloak's session; each refreshes without ending the other's."""
        proxy = await self.proxy()
        one = self.application(proxy)
        tokens = {one: (await one.log_in())["refresh_token"]}
        other = self.application(proxy, browser=one.browser)
        await other.discover()
        await other.register()
        arrival, pkce = await other.authorize()
        answer = await other.redeem(arrival.parameters["code"], pkce)
        tokens[other] = document(answer)["refresh_token"]
        for _ in range(3):
            for application in (one, other):
                tokens[application] = document(await application.refresh(tokens[application]))[
                    "refresh_token"
                ]

    async def test_fifty_at_once(self) -> None:
        """Fifty people log in at the same moment, from one address, and all get in."""
        proxy = await self.proxy()
        applications = self.crowd(proxy, 50)
        tokens = await gatherResults(
            [Deferred.fromCoroutine(application.log_in()) for application in applications]
        )
        self.assertEqual(len({found["access_token"] for found in tokens}), 50)

    async def test_the_user_says_no(self) -> None:
        """Cancel on the consent page tells the client ``access_denied``; Keycloak never hears of it."""
        application = self.application(await self.proxy())
        await application.discover()
        await application.register()
        url = application.authorize_url(Pkce.make(), "the-state")
        form = (await application.browser.request("GET", url)).page.forms[0]
        answer = await application.browser.submit(form, button=-1)
        target = answer.page.refresh or answer.header("location") or ""
        self.assertTrue(target.startswith(CALLBACK), target)
        said = dict(parse_qsl(urlsplit(target).query))
        self.assertEqual((said["error"], said["state"]), ("access_denied", "the-state"))
        self.assertEqual(said["iss"], application.metadata["issuer"])

    async def test_registrations_survive_a_restart(self) -> None:
        """A client that registered with one process logs in at the next, and its tokens still work."""
        first = await self.proxy()
        application = self.application(first)
        tokens = await application.log_in()
        self.assertEqual(await deferToThread(first.stop), 0)
        await self.proxy(port=first.port)
        self.assert_initialized(await application.call(tokens["access_token"]))
        document(await application.refresh(tokens["refresh_token"]))
        arrival, pkce = await application.authorize()
        document(await application.redeem(arrival.parameters["code"], pkce))

    async def test_nothing_secret_in_the_log(self) -> None:
        """At DEBUG, no token, code, state, verifier or secret of a whole session is in the output."""
        proxy = await self.proxy()
        application = self.application(proxy)
        tokens = await application.log_in()
        await application.refresh(tokens["refresh_token"])
        await application.call(tokens["access_token"])
        await application.call("made.up.token-that-is-secret")
        self.assertEqual(await deferToThread(proxy.stop), 0)
        output = proxy.output
        self.assertIn("/oauth/token", output)
        planted = [*application.secrets, C.client_secret, C.password, "made.up.token-that-is-secret"]
        self.assertGreater(len(planted), 8)
        self.assertEqual([value[:12] for value in planted if value in output], [])


class Reuse(FlowCase):
    """A refresh token that comes again, in a realm that rotates them; the service runs in this process."""

    async def test_after_the_grace(self) -> None:
        """Within half a minute it is a retry; later the login ends, here and at Keycloak."""
        reactor = LaterReactor()
        config = await start_service(self, reactor, self.configuration())
        application = Application(global_reactor(), f"{config.auth.base_url}/mcp")
        first = (await application.log_in())["refresh_token"]
        second = document(await application.refresh(first))
        self.assert_initialized(await application.call(second["access_token"]))
        reactor.pass_time(GRACE - 2)
        self.assertEqual(document(await application.refresh(first))["refresh_token"], second["refresh_token"])
        reactor.pass_time(4)
        for token in (first, second["refresh_token"]):
            refused = document(await application.refresh(token), 400)
            self.assertEqual(refused["error"], "invalid_grant")
        self.assert_refused(await application.call(second["access_token"]))
        sealer = Sealer.from_config(config.auth, reactor.seconds)
        held = RefreshGrant.open(second["refresh_token"], sealer).refresh_token
        self.assert_error(await self.refresh(held), 400, "invalid_grant", "Session not active")
        # Signing in again makes good for it.
        document(await application.redeem(*await self.code(application)))

    async def code(self, application: Application) -> tuple[str, Pkce]:
        """Return a new code and its verifier."""
        arrival, pkce = await application.authorize()
        return arrival.parameters["code"], pkce


class Introspection(FlowCase):
    """With ``gate.introspect``."""

    async def asking(self, client_id: str) -> Application:
        """Start the program as this client of the realm; return an application that uses it."""
        configuration = self.configuration(clientId=client_id)
        proxy = await self.started(Proxy({**configuration, "gate": {"introspect": "1s"}}))
        self.started_proxy = proxy
        return self.application(proxy)

    async def test_a_session_that_ends(self) -> None:
        """A token that is good by its signature is refused as soon as Keycloak says so."""
        application = await self.asking(C.audience_client_id)
        tokens = await application.log_in()
        self.assert_initialized(await application.call(tokens["access_token"]))
        sealer = Sealer([C.client_secret.encode()], time.time)
        held = RefreshGrant.open(tokens["refresh_token"], sealer).refresh_token
        await self.browser().request(
            "POST",
            f"{self.endpoints}/revoke",
            data={"token": held},
            auth=(C.audience_client_id, C.client_secret),
        )
        deadline = time.monotonic() + 20
        answer = await application.call(tokens["access_token"])
        while answer.status == 200:
            self.assertLess(time.monotonic(), deadline)
            answer = await application.call(tokens["access_token"])
        self.assert_refused(answer)

    async def test_without_the_mapper(self) -> None:
        """Keycloak says no to everybody; the log tells the operator which mapper it wants."""
        application = await self.asking(C.client_id)
        tokens = await application.log_in()
        self.assert_refused(await application.call(tokens["access_token"]))
        said = self.started_proxy.program.wait_for
        await deferToThread(said, f"Included Client Audience {C.client_id}", 20)


class Documents(FlowCase):
    """Clients that identify themselves by a metadata document (CIMD)."""

    async def documents(self) -> DocumentHost:
        """Return a host for documents."""
        host = DocumentHost(global_reactor())
        self.addCleanup(host.stop)
        return host

    async def test_no_registration(self) -> None:
        """A document takes the place of a registration: login, call, refresh, with one fetch in all."""
        host = await self.documents()
        application = self.application(await self.proxy(cimd=host.settings))
        await application.discover()
        self.assertIs(application.metadata["client_id_metadata_document_supported"], True)
        application.client_id = host.publish("/c.json", client_name="Paper", redirect_uris=[CALLBACK])
        arrival, pkce = await application.authorize()
        page = next(answer for answer in arrival.trail if answer.page.forms)
        self.assertIn("Paper", page.text)
        self.assertIn(f"localhost:{host.port}", page.text, "the page names who published the document")
        tokens = document(await application.redeem(arrival.parameters["code"], pkce))
        self.assert_initialized(await application.call(tokens["access_token"]))
        document(await application.refresh(tokens["refresh_token"]))
        self.assertEqual(host.asked, ["/c.json"])

    async def test_private_networks(self) -> None:
        """By default nothing is fetched from this machine or its network; the page does not say why."""
        host = await self.documents()
        settings = {**host.settings, "allowedNetworks": []}
        proxy = await self.proxy(cimd=settings)
        application = self.application(proxy)
        await application.discover()
        application.client_id = host.publish("/c.json", redirect_uris=[CALLBACK])
        url = application.authorize_url(Pkce.make(), "state")
        answer = await application.browser.request("GET", url)
        self.assertEqual(answer.status, 503)
        self.assertNotIn("127.0.0.1", answer.text.replace(proxy.base_url, ""))
        self.assertEqual(host.asked, [])
        await deferToThread(proxy.program.wait_for, "resolves to", 20)


class Foreign(FlowCase):
    """Tokens that are signed well, and are still not for this server."""

    async def test_tokens_of_others(self) -> None:
        """Refused: another realm's token, another client's, an ID token, a refresh token, and noise."""
        application = self.application(await self.proxy())
        own = await self.tokens()
        here, self.issuer = self.issuer, self.issuer.removesuffix(C.realm) + C.other_realm
        elsewhere = await self.tokens()
        self.issuer = here
        other = document(
            await self.token(
                auth=(C.other_client_id, C.other_client_secret),
                grant_type="password",
                username=C.username,
                password=C.password,
                scope="openid",
            )
        )
        for name, token in {
            "another realm's access token": elsewhere["access_token"],
            "another client's access token": other["access_token"],
            "another client's ID token": other["id_token"],
            "the own client's ID token": own["id_token"],
            "a refresh token": own["refresh_token"],
            "noise": "noise",
        }.items():
            with self.subTest(name):
                self.assert_refused(await application.call(token))
        self.assert_initialized(await application.call(own["access_token"]))

    async def test_rotated_keys(self) -> None:
        """When the realm changes its signing key the proxy follows, and older tokens stay good."""
        application = self.application(await self.proxy())
        before = await application.log_in()
        await deferToThread(self.rotate_keys)
        # A token with the new key makes the proxy fetch the keys at once.
        token = (await self.tokens())["access_token"]
        self.assert_initialized(await application.call(token))
        arrival, pkce = await application.authorize()
        after = document(await application.redeem(arrival.parameters["code"], pkce))
        self.assert_initialized(await application.call(after["access_token"]))
        self.assert_initialized(await application.call(before["access_token"]))


class Outages(FlowCase):
    """Keycloak away, back, or another than was configured."""

    async def test_keycloak_comes_later(self) -> None:
        """Started without Keycloak the proxy is alive, says why it is not ready, and heals by itself."""
        real = urlsplit(self.issuer)
        port = free_port()
        self.issuer = f"http://127.0.0.1:{port}{real.path}"
        proxy = await self.proxy(wait=False)
        await deferToThread(proxy.wait_until_alive)
        self.assertEqual((await deferToThread(proxy.health))[0], 200)
        status, reason = await deferToThread(proxy.readiness)
        self.assertEqual(status, 503)
        self.assertRegex(reason, "discovery|openid-configuration")
        refused = await self.application(proxy).call("some.bearer.token")
        self.assertEqual(refused.status, 503, "without keys nobody can tell whether a token is good")
        # Keycloak's issuer follows the Host header, so behind this port it is the realm that was configured.
        listening = global_reactor().listenTCP(
            port, ProxyFactory("127.0.0.1", real.port), interface="127.0.0.1"
        )
        self.addCleanup(listening.stopListening)
        await deferToThread(proxy.wait_until_ready, _HEALING)
        application = self.application(proxy)
        self.assert_initialized(await application.call((await application.log_in())["access_token"]))

    async def test_another_issuer(self) -> None:
        """A realm that calls itself something else stops the start: exit code 2, both values named."""
        reached = self.issuer.replace("127.0.0.1", "localhost")
        begun = time.monotonic()
        proxy = await self.proxy(wait=False, discoveryUrl=f"{reached}/.well-known/openid-configuration")
        self.assertEqual(await deferToThread(proxy.wait, 30), 2)
        self.assertLess(time.monotonic() - begun, 30)
        self.assertIn(self.issuer, proxy.output)
        self.assertIn(reached, proxy.output)
        self.assertNotIn("Traceback", proxy.output)


class McpClient(FlowCase):
    """The official SDK's client with its own OAuth provider."""

    async def use(self, mode: Literal["auto", "legacy"]) -> None:
        """Log in, list the tools, call them, and refresh."""
        proxy = await self.proxy()
        seen: list[Exchange] = []

        async def session() -> tuple[set[str], Any, list[float], Any]:
            progress: list[float] = []

            async def on_progress(progress_: float, total: float | None, message: str | None) -> None:
                progress.append(progress_)

            async with mcp_client(proxy.mcp_url, C.username, C.password, seen.append, mode=mode) as client:
                tools = {tool.name for tool in (await client.mcp.list_tools()).tools}
                counted: Any = await client.mcp.call_tool("count", {"to": 3}, progress_callback=on_progress)
                client.expire_access_token()
                who: Any = await client.mcp.call_tool("whoami")
            return tools, counted.content[0].text, progress, who.structured_content

        tools, counted, progress, who = await deferToThread(asyncio.run, session())
        self.assertEqual(tools, {"whoami", "count"})
        self.assertEqual((counted, progress), ("counted to 3", [1, 2, 3]))
        self.assertEqual(who, {"x-user": C.username, "authorization": "absent"})
        paths = [urlsplit(one.url).path for one in seen if one.actor == "client"]
        self.assertEqual(paths.count("/oauth/register"), 1)
        self.assertEqual(paths.count("/oauth/token"), 2, "one code, one refresh")

    async def test_with_initialize(self) -> None:
        """A client of the 2025 revisions logs in, calls tools with progress over SSE, and refreshes."""
        await self.use("legacy")

    async def test_without_initialize(self) -> None:
        """So does a client that negotiates the newest revision by itself."""
        await self.use("auto")
