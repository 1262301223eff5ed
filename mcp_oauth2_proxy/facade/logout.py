"""The rules of OpenID Connect Back-Channel Logout 1.0 (sections 2.5 to 2.8): Keycloak says who is out."""

from __future__ import annotations

from mcp_oauth2_proxy.facade.errors import OAuthError, Reason, unavailable
from mcp_oauth2_proxy.facade.facade import Facade
from mcp_oauth2_proxy.facade.names import harmless
from mcp_oauth2_proxy.facade.parameters import Parameters
from mcp_oauth2_proxy.facade.vault import key_of
from mcp_oauth2_proxy.gate.endings import Ending
from mcp_oauth2_proxy.gate.rules import LEEWAY
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakRefused, KeycloakUnavailable

#: Bytes of a request: a logout token has less than two kilobytes, the gate reads tokens of 16 KiB.
MAX_BODY = 32 * 1024

_USED = b"used"


async def log_out(facade: Facade, form: Parameters) -> Ending:
    """End, everywhere, what the logout token in ``form`` names, and return it; raises :exc:`OAuthError`.

    The token is marked as used at the very end. Where anything before fails (503), the same token may be
    sent again, and to end a session twice does no harm; of many callers with one token, one hears success.
    """
    form.refuse_repeated("logout_token")
    token = form.require("logout_token")
    try:
        said = await facade.realm.validateLogoutToken(token)
    except KeycloakRefused as refused:
        raise _refused(harmless(refused.description, 200), Reason.LOGOUT_TOKEN) from None
    except KeycloakUnavailable as down:
        raise unavailable(
            "the identity provider has not been reached yet", Reason.KEYCLOAK_DOWN, str(down)
        ) from None
    used = key_of("logout", said.token_id)
    if await facade.vault.marked(used) is not None:
        raise _replayed()
    await facade.endings.end(said.ending)
    left = max(1.0, said.expires_at + LEEWAY - facade.clock.seconds())
    if not await facade.vault.claim(used, _USED, left):
        raise _replayed()
    return said.ending


def _replayed() -> OAuthError:
    return _refused("the logout token was used before", Reason.LOGOUT_REPLAYED)


def _refused(description: str, reason: Reason) -> OAuthError:
    """Return the answer to a bad logout request (section 2.8)."""
    return OAuthError("invalid_request", 400, description, reason=reason)
