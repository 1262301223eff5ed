"""What the rest of the proxy asks of Keycloak."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from mcp_oauth2_proxy.gate.endings import Ending
from mcp_oauth2_proxy.gate.keys import KeySet


class KeycloakUnavailable(Exception):
    """Keycloak does not answer, or not as it should: 503 ``temporarily_unavailable``, try again.

    The text names what was asked and what came; it holds no secret and belongs in the log.
    """


@frozen
class KeycloakRefused(Exception):
    """Keycloak's own OAuth error (RFC 6749 section 5.2): ``error`` and ``error_description``."""

    error: str
    description: str = ""

    def __str__(self) -> str:
        return f"{self.error}: {self.description}" if self.description else self.error


@frozen
class ProviderMetadata:
    """The part of the realm's discovery document that the proxy uses."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    revocation_endpoint: str | None = None
    end_session_endpoint: str | None = None
    introspection_endpoint: str | None = None
    scopes_supported: tuple[str, ...] = ()


@frozen
class TokenResponse:
    """Keycloak's answer from its token endpoint. Nothing of it shows in a ``repr``."""

    access_token: str = field(repr=False)
    expires_in: int | None = None
    refresh_token: str | None = field(default=None, repr=False)
    refresh_expires_in: int | None = None
    id_token: str | None = field(default=None, repr=False)
    scope: str | None = None
    #: Whose session it is and since when it counts, as the access token's ``sid``, ``sub`` and ``iat`` say.
    session: str | None = None
    subject: str | None = None
    issued_at: float | None = None


@frozen
class LogoutToken:
    """What a good logout token says; it may be used once, known by ``token_id`` until ``expires_at``."""

    token_id: str
    expires_at: float
    ending: Ending


class IRealm(Interface):
    """One Keycloak realm, seen through the proxy's confidential client."""

    metadata = Attribute("ProviderMetadata, or None until discovery has succeeded.")
    keys = Attribute("The KeySet in force, or None until it has been fetched.")

    def unready() -> str | None:
        """Return why the realm cannot be used yet (safe to show), or ``None`` when it can."""

    def keysFor(key_id: str | None) -> Deferred[KeySet]:
        """Return keys after giving a refetch the chance to bring ``key_id``.

        Concurrent callers share one fetch; a flood causes at most one fetch per 10 s. Fails with
        :exc:`KeycloakUnavailable` only where no keys have ever been fetched.
        """

    def authorizationUrl(parameters: Mapping[str, str]) -> str:
        """Return Keycloak's authorization URL with ``client_id`` and ``parameters`` in its query."""

    def exchangeCode(code: str, *, code_verifier: str, redirect_uri: str) -> Deferred[TokenResponse]:
        """Exchange Keycloak's authorization code (RFC 6749 section 4.1.3, RFC 7636)."""

    def refresh(refresh_token: str, *, scope: str | None = None) -> Deferred[TokenResponse]:
        """Refresh (RFC 6749 section 6). Both fail with KeycloakRefused or KeycloakUnavailable."""

    def revoke(refresh_token: str) -> Deferred[None]:
        """Revoke a refresh token, and with it the session's share that it belongs to (RFC 7009).

        A token that Keycloak does not know any more is none to revoke: that is success. Fails with
        :exc:`KeycloakUnavailable`.
        """

    def introspect(access_token: str) -> Deferred[bool]:
        """Return whether Keycloak calls the token active (RFC 7662).

        Fails with :exc:`KeycloakUnavailable`.
        """

    def validateIdToken(id_token: str, *, nonce: str) -> Deferred[Mapping[str, Any]]:
        """Return the claims of a valid ID token (OpenID Connect Core 3.1.3.7).

        Fails with :exc:`KeycloakRefused` (``invalid_token``) naming the rule that it broke.
        """

    def validateLogoutToken(logout_token: str) -> Deferred[LogoutToken]:
        """Return what a valid logout token says (OpenID Connect Back-Channel Logout 1.0 section 2.6).

        Fails with :exc:`KeycloakRefused` (``invalid_token``) naming the rule that it broke, and with
        :exc:`KeycloakUnavailable` while there are no keys. Whether it was used before is not asked.
        """
