"""The contract on a real Keycloak."""

from __future__ import annotations

from twisted.internet.threads import deferToThread

from tests.keycloak_contract import contract
from tests.keycloak_contract.harness import ContractCase
from tests.support.keycloak import real_keycloak


class _OnKeycloak(ContractCase):
    """Uses the Keycloak that all tests of this process share."""

    def setUp(self) -> None:
        self.keycloak = real_keycloak()
        self.issuer = self.keycloak.issuer()

    def rotate_keys(self) -> None:
        self.keycloak.rotate_keys()

    async def announce_logouts(self, url: str) -> None:
        await deferToThread(self.keycloak.announce_logouts, url)
        self.addCleanup(deferToThread, self.keycloak.announce_logouts, "")

    async def end_session(self, sid: str) -> None:
        await deferToThread(self.keycloak.end_session, sid)

    async def allow_reuse(self) -> None:
        await deferToThread(self.keycloak.change_realm, refreshTokenMaxReuse=1)
        self.addCleanup(deferToThread, self.keycloak.change_realm, refreshTokenMaxReuse=0)


class KeycloakPublished(_OnKeycloak, contract.Published):
    """What Keycloak publishes."""


class KeycloakLoggingIn(_OnKeycloak, contract.LoggingIn):
    """How a person logs in at Keycloak."""


class KeycloakTokens(_OnKeycloak, contract.Tokens):
    """What Keycloak's tokens do."""


class KeycloakLoggingOut(_OnKeycloak, contract.LoggingOut):
    """What Keycloak says when a session ends."""
