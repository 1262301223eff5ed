"""The facade's collaborators in one place, and the few things that every endpoint does with them."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from mcp_oauth2_proxy.config.model import Config
from mcp_oauth2_proxy.facade.clients import Client, open_client_id
from mcp_oauth2_proxy.facade.cookies import Cookies
from mcp_oauth2_proxy.facade.errors import OAuthError, Reason, SealError, unavailable
from mcp_oauth2_proxy.facade.login import Login
from mcp_oauth2_proxy.facade.metadata import issuer
from mcp_oauth2_proxy.facade.pages import Pages
from mcp_oauth2_proxy.facade.refresh import RefreshBroker
from mcp_oauth2_proxy.facade.scopes import supported_scopes
from mcp_oauth2_proxy.facade.sealing import Sealer
from mcp_oauth2_proxy.facade.vault import Vault
from mcp_oauth2_proxy.keycloak.interfaces import IRealm
from mcp_oauth2_proxy.stores.interfaces import IStore


class Facade:
    """What the authorization server is made of. ``token_bytes(n)`` returns ``n`` unguessable bytes."""

    def __init__(
        self,
        config: Config,
        *,
        realm: IRealm,
        store: IStore,
        sealer: Sealer,
        clock: IReactorTime,
        token_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.auth = config.auth
        self.base_url = issuer(config.auth)
        self.realm = realm
        self.sealer = sealer
        self.clock = clock
        self.vault = Vault(store, sealer)
        self.cookies = Cookies.for_base_url(self.base_url)
        self.pages = Pages()
        self._token_bytes = token_bytes
        self.login = Login(
            self.auth,
            realm=realm,
            vault=self.vault,
            sealer=sealer,
            cookies=self.cookies,
            clock=clock,
            random=self.random,
        )
        self.refresher = RefreshBroker(self.auth, realm=realm, vault=self.vault, sealer=sealer, clock=clock)

    def random(self) -> str:
        """Return 256 unguessable bits as 43 URL-safe characters."""
        return base64.urlsafe_b64encode(self._token_bytes(32)).decode("ascii").rstrip("=")

    @property
    def supported(self) -> frozenset[str] | None:
        """The scopes that clients may ask for, as far as they are known now."""
        metadata = self.realm.metadata
        return supported_scopes(self.auth, metadata.scopes_supported if metadata else ())

    async def client(self, client_id: str, *, status: int) -> Client:
        """Return the client of ``client_id``, or raise ``invalid_client`` with ``status``."""
        try:
            return open_client_id(client_id, self.sealer, self.auth.client_ttl)
        except SealError as error:
            reason = Reason.CLIENT_EXPIRED if error.expired else Reason.CLIENT_UNKNOWN
            what = "has expired" if error.expired else "is not known here"
            raise OAuthError(
                "invalid_client", status, f"the client's registration {what}", reason=reason
            ) from None

    def require_ready(self) -> None:
        """Raise ``temporarily_unavailable`` while nobody can sign in at the realm."""
        why = self.realm.unready()
        if why is not None:
            raise unavailable("signing in is not possible at the moment", Reason.REALM_UNREADY, why)
