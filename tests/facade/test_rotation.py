"""Rotating ``auth.sealingKeys``: nobody is logged out, and no login that is under way is lost."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.model import Secret
from tests.facade.world import Browser, Registered, World

OLD, NEW = Secret("the old sealing key" * 2), Secret("the new sealing key" * 2)
#: What the replicas have at each step: two settings may be in use at the same time while they restart.
STEPS = {
    "the new key opens": ((OLD,), (OLD, NEW)),
    "the new key seals": ((OLD, NEW), (NEW, OLD)),
    "the change is over": ((NEW, OLD), (NEW, OLD)),
}


class Rotation(SynchronousTestCase):
    """Two replicas that share a store, and are given a new key one after the other."""

    def setUp(self) -> None:
        self.first = World(changes={"sealing_keys": (OLD,)})

    def replica(self, *keys: Secret) -> World:
        """Return a replica with these keys; clock, realm and store are those of the first."""
        first = self.first
        return World(
            clock=first.clock, realm=first.realm, shared_store=first.store, changes={"sealing_keys": keys}
        )

    def at(self, world: World, browser: Browser) -> Browser:
        """Return the same browser, as it comes to another replica."""
        there = Browser(world)
        there.cookies = browser.cookies
        return there

    def test_nobody_is_logged_out(self) -> None:
        """Who is logged in refreshes at any replica at every step, with what any other has given out."""
        for method in ("none", "client_secret_post"):
            client = self.first.register(token_endpoint_auth_method=method)
            secret = {"client_secret": client.secret} if client.secret else {}
            tokens = self.first.redeem(client, self.first.code_for(client)).json
            for name, settings in STEPS.items():
                for keys in (settings[0], settings[1], settings[0]):
                    answer = self.replica(*keys).refresh(client, tokens["refresh_token"], **secret)
                    self.assertEqual(answer.code, 200, (name, method, answer.text))
                    tokens = answer.json

    def test_a_lost_answer(self) -> None:
        """A refresh whose answer was lost is answered the same by a replica with other keys."""
        client = self.first.register()
        token = self.first.redeem(client, self.first.code_for(client)).json["refresh_token"]
        answer = self.replica(OLD, NEW).refresh(client, token).json
        self.assertEqual(self.replica(NEW, OLD).refresh(client, token).json, answer)

    def test_logins_under_way(self) -> None:
        """A login whose every leg meets other keys ends well: consent, Keycloak, code."""
        for name, settings in STEPS.items():
            for begin, end in (settings, settings[::-1]):
                here, there = self.replica(*begin), self.replica(*end)
                client: Registered = here.register()
                browser = Browser(here)
                page = self.at(there, browser).get(there.authorize_url(client))
                leaving = self.at(here, browser).decide(page)
                back = self.at(there, browser).get(self.first.realm.answer_to(leaving.location))
                self.assertEqual(here.redeem(client, back.answer["code"]).code, 200, name)
                # The consent is remembered under whichever key.
                for world in (there, here):
                    asked = self.at(world, browser).get(world.authorize_url(client))
                    self.assertNotIn("decision", asked.text, name)

    def test_the_old_key_is_gone(self) -> None:
        """Who registered and logged in since the new key seals stays logged in without the old one."""
        during, last = self.replica(NEW, OLD), self.replica(NEW)
        early = self.first.register()
        client = during.register()
        first = self.first.redeem(early, self.first.code_for(early)).json["refresh_token"]
        tokens = during.redeem(client, during.code_for(client)).json
        self.assertEqual(last.refresh(client, tokens["refresh_token"]).code, 200)
        # Who has not been seen for as long as the old key was kept begins anew, as the documentation says.
        refused = last.refresh(early, first)
        self.assertEqual((refused.code, refused.json["error"]), (401, "invalid_client"))
