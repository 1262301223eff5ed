"""The authorization request (RFC 6749 4.1.1, RFC 7636, RFC 8707): read, judged, and carried along."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

from attrs import asdict, field, frozen

from mcp_oauth2_proxy.facade.clients import Client
from mcp_oauth2_proxy.facade.errors import (
    OAuthError,
    Reason,
    RedirectedError,
    SealError,
    invalid_request,
)
from mcp_oauth2_proxy.facade.names import harmless
from mcp_oauth2_proxy.facade.parameters import Parameters
from mcp_oauth2_proxy.facade.redirects import Permitted
from mcp_oauth2_proxy.facade.scopes import narrow, parse_scope
from mcp_oauth2_proxy.facade.sealing import digest
from mcp_oauth2_proxy.gate.resource_id import same_resource, within

#: Characters of a state; the longest in the field (JSON in base64) has about 600.
MAX_STATE = 4096
#: Characters of a parameter that is passed on to Keycloak.
MAX_HINT = 256
#: What passes from the client to Keycloak's login; everything else stays here.
HINTS = ("login_hint", "kc_idp_hint", "ui_locales")

#: RFC 7636 section 4.2: the base64url of a SHA-256.
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@frozen
class AuthorizationRequest:
    """An authorization request that obeys every rule; ``redirect_uri`` is proven to be the client's."""

    client_id: str = field(repr=False)
    client: str
    redirect_uri: str
    state: str | None = field(repr=False)
    challenge: str = field(repr=False)
    scopes: tuple[str, ...]
    resource: str | None
    refreshable: bool
    hints: Mapping[str, str] = field(repr=False)

    def to_record(self) -> dict[str, Any]:
        """Return the request as JSON types."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_record` recorded. Raises :exc:`SealError` for a record of another version."""
        try:
            return cls(**{**record, "scopes": tuple(record["scopes"])})
        except (KeyError, TypeError):
            raise SealError("the authorization request is of another version") from None

    def consent_key(self, target: str) -> str:
        """Return what a remembered consent stands for: this client, this place and these scopes."""
        return digest("consent", self.client_id, target, *sorted(self.scopes))[:22]


def read_authorization(
    parameters: Parameters,
    client: Client,
    *,
    base_url: str,
    supported: frozenset[str] | None,
    permitted: Permitted,
) -> AuthorizationRequest:
    """Return the request that ``client`` makes.

    Raises :exc:`OAuthError` while the redirect URI is not proven and ``permitted``,
    :exc:`RedirectedError` afterwards.
    """
    parameters.refuse_repeated("client_id", "redirect_uri")
    uri = client.match(parameters.get("redirect_uri"))
    if not (client.by_operator or permitted(uri)):
        raise OAuthError(
            "invalid_request",
            400,
            f"this server does not lead to {uri.target}",
            reason=Reason.REDIRECT_DENIED,
            detail="by auth.allowedRedirects or auth.deniedRedirects",
        )
    redirect_uri = uri.text
    state = None if "state" in parameters.repeated else parameters.get("state")
    try:
        if state is not None and len(state) > MAX_STATE:
            state = None
            raise invalid_request(f"state is longer than {MAX_STATE} characters", Reason.MALFORMED)
        parameters.refuse_repeated()
        _check_response_type(parameters)
        return AuthorizationRequest(
            client_id=client.client_id,
            client=client.digest,
            redirect_uri=redirect_uri,
            state=state,
            challenge=_challenge(parameters),
            scopes=narrow(parse_scope(parameters.get("scope")) or client.scope, supported),
            resource=requested_resource(parameters, base_url),
            refreshable="refresh_token" in client.grants,
            hints=_hints(parameters),
        )
    except OAuthError as error:
        unasked = not client.by_operator
        raise RedirectedError(error, redirect_uri=redirect_uri, state=state, unasked=unasked) from None


def _check_response_type(parameters: Parameters) -> None:
    if parameters.require("response_type") != "code":
        raise OAuthError(
            "unsupported_response_type", 400, "response_type must be code", reason=Reason.UNSUPPORTED
        )
    if parameters.get("response_mode") not in (None, "query"):
        raise invalid_request("response_mode must be query", Reason.UNSUPPORTED)
    for name in ("request", "request_uri"):
        if parameters.get(name):
            # OpenID Connect Core section 6: never ignored, since it may say something else than the query.
            raise OAuthError(
                f"{name}_not_supported", 400, f"{name} is not supported", reason=Reason.UNSUPPORTED
            )


def _challenge(parameters: Parameters) -> str:
    challenge = parameters.get("code_challenge")
    if challenge is None:
        raise invalid_request("code_challenge is missing: PKCE is required", Reason.PKCE)
    if parameters.get("code_challenge_method") != "S256":
        raise invalid_request("code_challenge_method must be S256", Reason.PKCE)
    if not _CHALLENGE.fullmatch(challenge):
        raise invalid_request("code_challenge is not a base64url SHA-256", Reason.PKCE)
    return challenge


def requested_resource(parameters: Parameters, base_url: str) -> str | None:
    """Return the ``resource`` that is asked for, ``None`` for the default.

    Raises ``invalid_target`` (RFC 8707 section 2) where one is not under this proxy, or two differ.
    """
    first: str | None = None
    for resource in parameters.resources:
        if not within(base_url, resource):
            raise _foreign(
                "resource is not served by this proxy",
                f"expected {base_url} or below it, got {harmless(resource, 200)}",
            )
        if first is not None and not same_resource(first, resource):
            raise _foreign(
                "more than one resource is asked for",
                f"got {harmless(first, 200)} and {harmless(resource, 200)}",
            )
        first = first or resource
    return first


def _foreign(description: str, detail: str) -> OAuthError:
    return OAuthError("invalid_target", 400, description, reason=Reason.RESOURCE, detail=detail)


def _hints(parameters: Parameters) -> dict[str, str]:
    found = {name: parameters.get(name) for name in HINTS}
    return {name: value for name, value in found.items() if value and len(value) <= MAX_HINT}
