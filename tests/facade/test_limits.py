"""Rate limits at the endpoints: what a refused request hears, and what it costs."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.model import Limits, Rate, Server
from tests.facade.world import CALLBACK, Browser, Response, World

ONE = Rate(1, 60.0)


class Floods(SynchronousTestCase):
    """One request a minute, so that the second one is a flood."""

    def assert_limited(self, answer: Response) -> None:
        self.assertEqual(answer.code, 429)
        self.assertEqual(answer.headers.getRawHeaders("Retry-After"), ["60"])
        self.assertEqual(answer.headers.getRawHeaders("Cache-Control"), ["no-store"])

    def test_register(self) -> None:
        """JSON that no client takes for the end of its registration."""
        world = World(limits=evolve(Limits(), register_per_address=ONE))
        self.assertEqual(world.post_json("/oauth/register", {"redirect_uris": [CALLBACK]}).code, 201)
        answer = world.post_json("/oauth/register", {"redirect_uris": [CALLBACK]})
        self.assert_limited(answer)
        self.assertEqual(answer.json["error"], "temporarily_unavailable")
        world.clock.advance(60)
        self.assertEqual(world.post_json("/oauth/register", {"redirect_uris": [CALLBACK]}).code, 201)

    def test_pages(self) -> None:
        """A person reads what to do; authorize, consent and callback count as one."""
        world = World(limits=evolve(Limits(), authorize_per_address=ONE))
        browser = Browser(world)
        page = browser.get(world.authorize_url(world.register()))
        self.assertEqual(page.code, 200)
        answer = browser.decide(page)
        self.assert_limited(answer)
        self.assertIn("Wait a minute", answer.text)
        self.assert_limited(browser.get("/oauth/callback?state=x"))

    def test_nothing_is_burned(self) -> None:
        """A code that met the limit works afterwards."""
        world = World(limits=evolve(Limits(), token_per_address=ONE))
        client = world.register()
        code = world.code_for(client)
        self.assertEqual(world.redeem(client, "another code").code, 400)
        self.assert_limited(world.redeem(client, code))
        world.clock.advance(60)
        self.assertEqual(world.redeem(client, code).code, 200)

    def test_metadata_is_not_limited(self) -> None:
        """Discovery costs nothing, and a client that cannot discover shows a wrong error."""
        world = World(limits=Limits(ONE, ONE, ONE, ONE, ONE, ONE))
        for _ in range(20):
            self.assertEqual(world.request("GET", "/.well-known/oauth-authorization-server").code, 200)

    def test_other_addresses(self) -> None:
        """Behind a trusted proxy each client has its own bucket; without trust all are the proxy."""
        for trusted, expected in ((("192.168.1.1", "127.0.0.1"), 201), ((), 429)):
            world = World(
                limits=evolve(Limits(), register_per_address=ONE), server=Server(trusted_proxies=trusted)
            )
            codes = [
                world.request(
                    "POST",
                    "/oauth/register",
                    headers={"Content-Type": "application/json", "X-Forwarded-For": address},
                    body=b'{"redirect_uris": ["https://client.example/cb"]}',
                ).code
                for address in ("192.0.2.1", "192.0.2.2", "192.0.2.2")
            ]
            self.assertEqual(codes, [201, expected, 429])
