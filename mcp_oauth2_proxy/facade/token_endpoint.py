"""The token endpoint's rules (RFC 6749 sections 4.1.3, 5 and 6): who asks, for what, and whether it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from mcp_oauth2_proxy.facade.assertions import check_assertion, key_id_of, refused
from mcp_oauth2_proxy.facade.clientauth import authenticate, read_credentials
from mcp_oauth2_proxy.facade.clients import CODE_GRANT, REFRESH_GRANT, Client
from mcp_oauth2_proxy.facade.errors import (
    ClientAuthenticationError,
    OAuthError,
    Reason,
    SealError,
)
from mcp_oauth2_proxy.facade.facade import Facade
from mcp_oauth2_proxy.facade.grants import CodeGrant, RefreshGrant, invalid_grant, token_response
from mcp_oauth2_proxy.facade.parameters import Parameters
from mcp_oauth2_proxy.facade.sealing import Purpose
from mcp_oauth2_proxy.facade.vault import key_of


@frozen
class Issued:
    """A successful token response and the client that gets it."""

    response: dict[str, Any] = field(repr=False)
    client: str
    grant: str


async def issue_tokens(facade: Facade, form: Parameters, authorization: Sequence[bytes]) -> Issued:
    """Return the tokens that a token request earns, or raise :exc:`OAuthError`.

    ``authorization`` are the values of that header. The client is authenticated before anything is
    looked at, so that a failed authentication burns nothing.
    """
    form.refuse_repeated()
    client = await authenticated(facade, form, authorization)
    grant = form.require("grant_type")
    if grant not in (CODE_GRANT, REFRESH_GRANT):
        raise OAuthError(
            "unsupported_grant_type",
            400,
            f"grant_type must be {CODE_GRANT} or {REFRESH_GRANT}",
            reason=Reason.UNSUPPORTED,
        )
    if grant not in client.grants:
        raise OAuthError(
            "unauthorized_client",
            400,
            f"this client has not registered {grant}",
            reason=Reason.GRANT_FORBIDDEN,
        )
    redeem = _redeem_code if grant == CODE_GRANT else _redeem_refresh_token
    response = await redeem(facade, form, client)
    facade.endings.check_lifetime(response.get("expires_in"))
    return Issued(response, client.digest, grant)


async def authenticated(facade: Facade, form: Parameters, authorization: Sequence[bytes]) -> Client:
    """Return the client that proves itself; raises :exc:`OAuthError`, and has burned nothing then."""
    credentials = read_credentials(authorization, form)
    refusal: OAuthError | None = None
    for client_id, _ in credentials.pairs:
        try:
            client = await facade.directory.find(client_id, status=401)
        except OAuthError as error:
            refusal = refusal or error
            continue
        if credentials.assertion is not None:
            return await _proven(facade, client, credentials.assertion)
        return authenticate(client, credentials, facade.directory.secret_matches)
    assert refusal is not None  # noqa: S101 (there is at least one pair)
    if refusal.status != 401:  # not the client's fault: it may try again
        raise refusal
    raise ClientAuthenticationError(
        refusal.description, reason=refusal.reason, basic=credentials.basic, detail=refusal.detail
    )


async def _proven(facade: Facade, client: Client, assertion: str) -> Client:
    """Return ``client`` when ``assertion`` is its own, good, and used for the first time."""
    if client.keys is None:
        raise refused("this client has published no keys")
    keys = await facade.directory.keys(client.keys, key_id_of(assertion))
    good = check_assertion(
        assertion, client, keys=keys, accepted=facade.assertion_audiences, now=facade.clock.seconds()
    )
    if not await facade.vault.claim(f"assertion:{good.name}", b"used", good.remember):
        raise refused("it was used before")
    return client


async def _redeem_code(facade: Facade, form: Parameters, client: Client) -> dict[str, Any]:
    """Return the tokens of a code. Everything is checked before the code is taken, once.

    So a client that does not fit cannot burn another's code, and of two that fit one gets it.
    """
    code = form.require("code")
    key, spent = key_of("code", code), key_of("spent-code", code)
    ttl = facade.auth.code_ttl
    record = await facade.vault.look(key, Purpose.CODE, ttl)
    if record is None:
        raise await _no_code(facade, spent)
    try:
        grant = CodeGrant.from_record(record)
    except SealError as error:
        raise invalid_grant("the code is no longer valid", Reason.CODE_UNKNOWN) from error
    grant.check(form, client, facade.base_url)
    if grant.tokens.have_ended(facade.endings.known):
        raise invalid_grant("the session has ended", Reason.REFRESH_ENDED, "before its code was redeemed")
    if await facade.vault.take(key, Purpose.CODE, ttl) is None:
        raise invalid_grant("the code was used before", Reason.CODE_REUSED)
    await facade.vault.mark(spent, client.digest.encode("ascii"), ttl)
    tokens = grant.tokens
    refresh = None
    if REFRESH_GRANT in client.grants:
        refresh = RefreshGrant.of(tokens, grant.request, facade.random())
    return token_response(
        tokens,
        refresh=refresh,
        requested=grant.request.scopes,
        auth=facade.auth,
        sealer=facade.sealer,
        now=facade.clock.seconds(),
    )


async def _no_code(facade: Facade, spent: str) -> OAuthError:
    if await facade.vault.marked(spent) is not None:
        return invalid_grant("the code was used before", Reason.CODE_REUSED)
    return invalid_grant("the code is unknown or has expired", Reason.CODE_UNKNOWN)


async def _redeem_refresh_token(facade: Facade, form: Parameters, client: Client) -> dict[str, Any]:
    """Return new tokens. A narrower ``scope`` may be asked for and is not granted (RFC 6749 section 3.3)."""
    token = form.require("refresh_token")
    try:
        grant = RefreshGrant.open(token, facade.sealer)
    except SealError as error:
        raise invalid_grant("the refresh token is not known here", Reason.REFRESH_UNKNOWN) from error
    grant.check(form, client, facade.base_url)
    return await facade.refresher.refresh(token, grant)
