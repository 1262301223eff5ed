"""The facade's collaborators in one place, and the few things that every endpoint does with them."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from mcp_oauth2_proxy.config.model import Config
from mcp_oauth2_proxy.config.redirect_uris import RedirectUri
from mcp_oauth2_proxy.facade.cookies import Cookies
from mcp_oauth2_proxy.facade.directory import Directory, Fetch
from mcp_oauth2_proxy.facade.endings import SharedEndings
from mcp_oauth2_proxy.facade.errors import Reason, unavailable
from mcp_oauth2_proxy.facade.login import Login
from mcp_oauth2_proxy.facade.metadata import issuer
from mcp_oauth2_proxy.facade.pages import Pages
from mcp_oauth2_proxy.facade.redirects import permitted
from mcp_oauth2_proxy.facade.refresh import RefreshBroker
from mcp_oauth2_proxy.facade.scopes import supported_scopes
from mcp_oauth2_proxy.facade.sealing import Sealer
from mcp_oauth2_proxy.facade.vault import Vault
from mcp_oauth2_proxy.gate.endings import Endings
from mcp_oauth2_proxy.keycloak.interfaces import IRealm
from mcp_oauth2_proxy.ops.cors import Cors
from mcp_oauth2_proxy.ops.limits import Limited, LimitKind, RateLimits
from mcp_oauth2_proxy.ops.peers import TrustedProxies, client_address
from mcp_oauth2_proxy.stores.interfaces import IStore


class Facade:
    """What the authorization server is made of.

    ``fetch`` gets a stranger's JSON document, ``token_bytes(n)`` returns ``n`` unguessable bytes. ``endings``
    is what the gate knows of ended sessions, ``on_endings`` is called when there are new ones.
    """

    def __init__(
        self,
        config: Config,
        *,
        realm: IRealm,
        store: IStore,
        sealer: Sealer,
        clock: IReactorTime,
        fetch: Fetch,
        endings: Endings,
        on_endings: Callable[[], object] = lambda: None,
        token_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.auth = config.auth
        self.base_url = issuer(config.auth)
        self.realm = realm
        self.sealer = sealer
        self.clock = clock
        self.vault = Vault(store, sealer)
        self.endings = SharedEndings(
            endings, vault=self.vault, clock=clock, random=self.random, on_news=on_endings
        )
        self.cookies = Cookies.for_base_url(self.base_url)
        self.pages = Pages()
        self._token_bytes = token_bytes
        self.cors = Cors(config.server.cors_origins)
        self._limits = RateLimits(config.limits)
        self._trusted = TrustedProxies(config.server.trusted_proxies)
        self.login = Login(
            self.auth,
            realm=realm,
            vault=self.vault,
            sealer=sealer,
            cookies=self.cookies,
            clock=clock,
            random=self.random,
        )
        self.directory = Directory(self.auth, sealer=sealer, vault=self.vault, clock=clock, fetch=fetch)
        #: What a client assertion may name as its audience: this server, or the endpoint it is sent to.
        self.assertion_audiences = (
            self.base_url,
            f"{self.base_url}/oauth/token",
            f"{self.base_url}/oauth/revoke",
        )
        self.refresher = RefreshBroker(
            self.auth, realm=realm, vault=self.vault, sealer=sealer, endings=self.endings, clock=clock
        )

    def random(self) -> str:
        """Return 256 unguessable bits as 43 URL-safe characters."""
        return base64.urlsafe_b64encode(self._token_bytes(32)).decode("ascii").rstrip("=")

    def limit(self, kind: LimitKind, request: Request) -> Limited | None:
        """Count ``request``, or say why it is refused."""
        return self._limits.check(kind, client_address(request, self._trusted), self.clock.seconds())

    @property
    def supported(self) -> frozenset[str] | None:
        """The scopes that clients may ask for, as far as they are known now."""
        metadata = self.realm.metadata
        return supported_scopes(self.auth, metadata.scopes_supported if metadata else ())

    def permitted(self, uri: RedirectUri) -> bool:
        """Return whether clients that register themselves may lead to ``uri``."""
        auth = self.auth
        return permitted(uri, allowed=auth.allowed_redirects, denied=auth.denied_redirects)

    def require_ready(self) -> None:
        """Raise ``temporarily_unavailable`` while nobody can sign in at the realm."""
        why = self.realm.unready()
        if why is not None:
            raise unavailable("signing in is not possible at the moment", Reason.REALM_UNREADY, why)
