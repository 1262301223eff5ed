"""The flow on a real Keycloak."""

from __future__ import annotations

from twisted.internet.threads import deferToThread

from tests.e2e import flow, legs, logout
from tests.support.keycloak import real_keycloak


class _OnKeycloak(flow.FlowCase):
    """Uses the Keycloak that all tests of this process share."""

    def setUp(self) -> None:
        self.provider = real_keycloak()
        self.issuer = self.provider.issuer()

    def rotate_keys(self) -> None:
        self.provider.rotate_keys()

    async def announce_logouts(self, url: str) -> None:
        await deferToThread(self.provider.announce_logouts, url)
        self.addCleanup(deferToThread, self.provider.announce_logouts, "")

    async def end_session(self, sid: str) -> None:
        await deferToThread(self.provider.end_session, sid)


class KeycloakFlow(_OnKeycloak, flow.Flow):
    """Logging in through a real Keycloak."""


class KeycloakForeign(_OnKeycloak, flow.Foreign):
    """Real Keycloak tokens that are not for this server."""


class KeycloakOutages(_OnKeycloak, flow.Outages):
    """A real Keycloak that is away, or another."""


class KeycloakMcpClient(_OnKeycloak, flow.McpClient):
    """The official MCP client and a real Keycloak."""


class KeycloakDocuments(_OnKeycloak, flow.Documents):
    """Clients with a metadata document, logged in at Keycloak."""


class KeycloakReuse(_OnKeycloak, flow.Reuse):
    """Refresh tokens that come again, at a real Keycloak, which rotates them."""


class KeycloakIntrospection(_OnKeycloak, flow.Introspection):
    """Asking a real Keycloak about tokens."""


class KeycloakLogout(_OnKeycloak, logout.Logout):
    """Sessions that end at a real Keycloak."""


class KeycloakWorkers(_OnKeycloak, legs.Workers):
    """Logins at a real Keycloak, which hashes passwords for long, that are spread over workers."""

    people = 10


class KeycloakReplicas(_OnKeycloak, legs.Replicas):
    """Logins at a real Keycloak that are spread over replicas."""
