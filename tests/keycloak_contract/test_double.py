"""The contract on the embedded identity provider."""

from __future__ import annotations

from twisted.web.server import Site

from mcp_oauth2_proxy.demo.idp import KeycloakDouble
from mcp_oauth2_proxy.demo.realm import Client, RealmDefinition, User
from tests.keycloak_contract import contract
from tests.keycloak_contract.harness import ContractCase
from tests.support.keycloak import CREDENTIALS as C
from tests.support.reactor import global_reactor

_USER = User(C.username, C.password, "alice@example.com", "Alice", "Example")


def realm(name: str) -> RealmDefinition:
    """Return the realm that the realm file of this name describes."""
    loopback = ("http://127.0.0.1:*", "http://localhost:*")
    return RealmDefinition(
        name,
        clients=(
            Client(C.client_id, C.client_secret, loopback),
            Client(C.other_client_id, C.other_client_secret, standard_flow=False, direct_grants=True),
        ),
        users=(_USER,),
    )


class _OnTheDouble(ContractCase):
    """Serves the double on a port of its own for each test."""

    def setUp(self) -> None:
        reactor = global_reactor()
        self.double = KeycloakDouble([realm(C.realm), realm(C.other_realm)], clock=reactor)
        port = reactor.listenTCP(0, Site(self.double), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.issuer = f"http://127.0.0.1:{port.getHost().port}/realms/{C.realm}"

    def rotate_keys(self) -> None:
        self.double.realms[C.realm].keys.rotate()


class DoublePublished(_OnTheDouble, contract.Published):
    """What the double publishes."""


class DoubleLoggingIn(_OnTheDouble, contract.LoggingIn):
    """How a person logs in at the double."""


class DoubleTokens(_OnTheDouble, contract.Tokens):
    """What tokens of the double do."""
