"""The embedded identity provider with the same realms as ``tests/e2e/realm-*.json``, on a port of its own."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from mcp_oauth2_proxy.demo.idp import KeycloakDouble
from mcp_oauth2_proxy.demo.logout import Delivery
from mcp_oauth2_proxy.demo.realm import Client, RealmDefinition, User
from tests.support.keycloak import CREDENTIALS as C
from tests.support.reactor import global_reactor
from tests.support.site import ClosingSite

_USER = User(C.username, C.password, "alice@example.com", "Alice", "Example")


def _realm(name: str, **settings: Any) -> RealmDefinition:
    loopback = ("http://127.0.0.1:*", "http://localhost:*")
    return RealmDefinition(
        name,
        clients=(
            Client(C.client_id, C.client_secret, loopback),
            Client(C.audience_client_id, C.client_secret, loopback, audiences=(C.audience_client_id,)),
            Client(C.other_client_id, C.other_client_secret, standard_flow=False, direct_grants=True),
        ),
        users=(_USER,),
        **settings,
    )


class RunningDouble:
    """A double that listens on 127.0.0.1; it offers what :class:`RealKeycloak` offers.

    ``settings`` are those of a :class:`RealmDefinition`.
    """

    def __init__(self, reactor: Any, **settings: Any) -> None:
        realms = [_realm(name, **settings) for name in (C.realm, C.other_realm)]
        self.double = KeycloakDouble(realms, clock=reactor, deliver=Delivery(reactor))
        site = ClosingSite(self.double, reactor)
        self.base_url = f"http://127.0.0.1:{site.listen()}"
        #: Stops listening and hangs up; returns a Deferred.
        self.stop = site.close

    def issuer(self, realm: str = C.realm) -> str:
        """Return the realm's issuer."""
        return f"{self.base_url}/realms/{realm}"

    def announce_logouts(self, url: str) -> None:
        """Tell ``url`` when a session of the proxy's client ends."""
        self.double.realms[C.realm].ending.urls[C.client_id] = url

    def end_session(self, sid: str) -> None:
        """End a session as an administrator does."""
        realm = self.double.realms[C.realm]
        realm.ending.end(realm.memory.sessions[sid], issuer=self.issuer(), now=realm.now())

    def rotate_keys(self, realm: str = C.realm) -> None:
        """Give the realm a new signing key."""
        self.double.realms[realm].keys.rotate()


class OnTheDouble(TestCase):
    """Serves a double of its own for each test; with ``settings`` in place of the one before."""

    provider: RunningDouble
    issuer: str

    def setUp(self, **settings: Any) -> None:
        self.provider = RunningDouble(global_reactor(), **settings)
        self.addCleanup(self.provider.stop)
        self.issuer = self.provider.issuer()

    def rotate_keys(self) -> None:
        self.provider.rotate_keys()

    async def announce_logouts(self, url: str) -> None:
        self.provider.announce_logouts(url)

    async def end_session(self, sid: str) -> None:
        self.provider.end_session(sid)
