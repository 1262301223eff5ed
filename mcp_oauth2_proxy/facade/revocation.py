"""The revocation endpoint's rules (RFC 7009): a client gives back what it was given."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mcp_oauth2_proxy.facade.errors import OAuthError, Reason, SealError
from mcp_oauth2_proxy.facade.facade import Facade
from mcp_oauth2_proxy.facade.grants import RefreshGrant, invalid_grant
from mcp_oauth2_proxy.facade.parameters import Parameters
from mcp_oauth2_proxy.facade.token_endpoint import authenticated

_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


async def revoke(facade: Facade, form: Parameters, authorization: Sequence[bytes]) -> str:
    """Revoke the token that ``form`` names and return the client's digest; raises :exc:`OAuthError`.

    A refresh token ends the session it belongs to. An access token is a JWT that everybody may verify
    without asking: it ends by itself, and RFC 7009 section 2.2.1 has the answer for that.
    """
    form.refuse_repeated()
    client = await authenticated(facade, form, authorization)
    token = form.require("token")
    try:
        grant = RefreshGrant.open(token, facade.sealer)
    except SealError:
        if _JWT.fullmatch(token):
            raise OAuthError(
                "unsupported_token_type",
                400,
                "access tokens end by themselves; revoke the refresh token",
                reason=Reason.UNSUPPORTED,
            ) from None
        # Section 2.2: what is no token of ours is as good as revoked.
        return client.digest
    if grant.client != client.digest:
        raise invalid_grant("the refresh token was issued to another client", Reason.REFRESH_UNKNOWN)
    await facade.refresher.families.revoke(grant)
    return client.digest
