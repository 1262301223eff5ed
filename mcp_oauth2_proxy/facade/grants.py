"""What a code and a refresh token stand for, and the rules of redeeming them (RFC 6749 4.1.3 and 6)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any, Self

from attrs import asdict, evolve, field, frozen

from mcp_oauth2_proxy.config.model import Auth
from mcp_oauth2_proxy.facade.authorization import AuthorizationRequest, requested_resource
from mcp_oauth2_proxy.facade.clients import Client
from mcp_oauth2_proxy.facade.errors import OAuthError, Reason, SealError, invalid_request
from mcp_oauth2_proxy.facade.names import harmless
from mcp_oauth2_proxy.facade.parameters import Parameters
from mcp_oauth2_proxy.facade.scopes import granted_scope
from mcp_oauth2_proxy.facade.sealing import Purpose, Sealer
from mcp_oauth2_proxy.gate.challenge import OFFLINE_ACCESS
from mcp_oauth2_proxy.gate.endings import Ending, Endings
from mcp_oauth2_proxy.gate.resource_id import same_resource
from mcp_oauth2_proxy.keycloak.interfaces import TokenResponse

#: RFC 7636 section 4.1.
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")


def challenge_of(verifier: str) -> str:
    """Return the S256 code challenge of ``verifier`` (RFC 7636 section 4.2)."""
    raw = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


@frozen
class Tokens:
    """Keycloak's tokens as they wait for their client; nothing of them shows in a ``repr``."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: float | None
    refresh_expires_in: int | None
    scope: str | None
    session: str | None = None
    subject: str | None = None
    issued_at: float | None = None

    @classmethod
    def received(cls, response: TokenResponse, now: float) -> Self:
        """Return the tokens of a ``response`` that came at ``now``."""
        return cls(
            access_token=response.access_token,
            refresh_token=response.refresh_token,
            expires_at=None if response.expires_in is None else now + response.expires_in,
            refresh_expires_in=response.refresh_expires_in,
            scope=response.scope,
            session=response.session,
            subject=response.subject,
            issued_at=response.issued_at,
        )

    @property
    def is_offline(self) -> bool:
        """Return whether the person gave access that outlives the session (scope ``offline_access``)."""
        return OFFLINE_ACCESS in (self.scope or "").split()

    def have_ended(self, endings: Endings) -> bool:
        """Return whether the session ended after the tokens were issued."""
        return endings.ended(self.session, self.subject, self.issued_at, offline=self.is_offline)


@frozen
class CodeGrant:
    """What a proxy-issued code stands for."""

    request: AuthorizationRequest
    tokens: Tokens

    def to_record(self) -> dict[str, Any]:
        """Return the grant as JSON types."""
        return {"request": self.request.to_record(), "tokens": asdict(self.tokens)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_record` recorded. Raises :exc:`SealError` for another version's record."""
        try:
            tokens = Tokens(**record["tokens"])
            return cls(AuthorizationRequest.from_record(record["request"]), tokens)
        except (KeyError, TypeError):
            raise SealError("the grant is of another version") from None

    def check(self, form: Parameters, client: Client, base_url: str) -> None:
        """Raise :exc:`OAuthError` unless ``client`` may redeem the code with this ``form``.

        The client, the redirect URI (RFC 6749 4.1.3; it may be left out, as OAuth 2.1 does, since PKCE
        binds the code), the verifier in constant time (RFC 7636 4.6) and the resource must fit.
        """
        if self.request.client != client.digest:
            raise invalid_grant("the code was issued to another client", Reason.CODE_BINDING)
        redirect_uri = form.get("redirect_uri")
        if redirect_uri is not None and redirect_uri != self.request.redirect_uri:
            raise invalid_grant(
                "redirect_uri is not the one of the authorization request", Reason.CODE_BINDING
            )
        verifier = form.get("code_verifier")
        if verifier is None:
            raise invalid_request("code_verifier is missing", Reason.PKCE)
        if not _VERIFIER.fullmatch(verifier) or not hmac.compare_digest(
            challenge_of(verifier), self.request.challenge
        ):
            raise invalid_grant("code_verifier does not fit the code_challenge", Reason.PKCE)
        check_resource(form, self.request.resource, base_url)


@frozen
class RefreshGrant:
    """What a sealed refresh token carries: Keycloak's own, and whom it was given to.

    All that follow from one login are a ``family``: it is revoked as a whole.
    """

    client: str
    family: str
    refresh_token: str = field(repr=False)
    scopes: tuple[str, ...]
    resource: str | None
    #: Keycloak's session and subject, and when its token was issued; tokens of older versions do not say.
    session: str | None = None
    subject: str | None = None
    issued_at: float | None = None
    offline: bool = False
    #: How many refreshes of the family came before this token.
    serial: int = 0

    @classmethod
    def of(cls, tokens: Tokens, request: AuthorizationRequest, family: str) -> Self | None:
        """Return what a login's refresh token stands for; ``None`` where Keycloak gave none."""
        if tokens.refresh_token is None:
            return None
        return cls(
            client=request.client,
            family=family,
            refresh_token=tokens.refresh_token,
            scopes=request.scopes,
            resource=request.resource,
            session=tokens.session,
            subject=tokens.subject,
            issued_at=tokens.issued_at,
            offline=tokens.is_offline,
        )

    def succeeded_by(self, tokens: Tokens) -> Self:
        """Return the grant after a refresh: without a new refresh token the old one stays (RFC 6749 6)."""
        return evolve(
            self,
            refresh_token=tokens.refresh_token or self.refresh_token,
            session=tokens.session or self.session,
            subject=tokens.subject or self.subject,
            issued_at=tokens.issued_at,
            serial=self.serial + 1,
        )

    def has_ended(self, endings: Endings) -> bool:
        """Return whether the session ended after this token was issued."""
        return endings.ended(self.session, self.subject, self.issued_at, offline=self.offline)

    def ending(self, now: float) -> Ending | None:
        """Return what ends all tokens of this one's session; ``None`` where it is not known."""
        if self.session is None:
            return None
        # Keycloak's clock may be ahead: its own time of issue counts then.
        return Ending(session=self.session, at=max(now, self.issued_at or now), offline=True)

    def seal(self, sealer: Sealer) -> str:
        """Return the refresh token that the client gets."""
        return sealer.seal(Purpose.REFRESH, asdict(self))

    @classmethod
    def open(cls, token: str, sealer: Sealer) -> Self:
        """Return what ``token`` carries. Raises :exc:`SealError`."""
        record = sealer.open(Purpose.REFRESH, token)
        try:
            return cls(**{**record, "scopes": tuple(record["scopes"])})
        except (KeyError, TypeError):
            raise SealError("the refresh token is of another version") from None

    def check(self, form: Parameters, client: Client, base_url: str) -> None:
        """Raise :exc:`OAuthError` unless ``client`` may use it with this ``form``."""
        if self.client != client.digest:
            raise invalid_grant("the refresh token was issued to another client", Reason.REFRESH_UNKNOWN)
        check_resource(form, self.resource, base_url)


def check_resource(form: Parameters, authorized: str | None, base_url: str) -> None:
    """Raise ``invalid_target`` unless ``form`` asks for ``authorized`` or nothing (RFC 8707 section 2.2)."""
    asked = requested_resource(form, base_url)
    if asked is not None and authorized is not None and not same_resource(asked, authorized):
        raise OAuthError(
            "invalid_target",
            400,
            "resource is not the authorized one",
            reason=Reason.RESOURCE,
            detail=f"authorized {harmless(authorized, 200)}, got {harmless(asked, 200)}",
        )


def token_response(
    tokens: Tokens,
    *,
    refresh: RefreshGrant | None,
    requested: tuple[str, ...],
    auth: Auth,
    sealer: Sealer,
    now: float,
) -> dict[str, Any]:
    """Return the body of a successful token response (RFC 6749 section 5.1).

    ``expires_in`` counts from ``now``: the token has aged while its code waited.
    """
    response: dict[str, Any] = {"access_token": tokens.access_token, "token_type": "Bearer"}
    if tokens.expires_at is not None:
        response["expires_in"] = max(1, int(tokens.expires_at - now))
    scope = granted_scope(requested, tokens.scope, auth)
    if scope:
        response["scope"] = scope
    if refresh is not None:
        response["refresh_token"] = refresh.seal(sealer)
    return response


def invalid_grant(description: str, reason: Reason, detail: str = "") -> OAuthError:
    """Return the error for a code or refresh token that does not hold: 400 ``invalid_grant``."""
    return OAuthError("invalid_grant", 400, description, reason=reason, detail=detail)
