"""What the embedded identity provider remembers: logins under way, sessions, codes, used refresh tokens."""

from __future__ import annotations

import base64
import uuid
from collections import defaultdict
from collections.abc import Callable

from attrs import define, field, frozen

from mcp_oauth2_proxy.demo.realm import User


class Randomness:
    """Names made of random bytes from ``token_bytes``."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self.bytes = token_bytes

    def uuid(self) -> str:
        """Return 16 random bytes in the form of a UUID."""
        return str(uuid.UUID(bytes=self.bytes(16)))

    def name(self, size: int = 18) -> str:
        """Return ``size`` random bytes, URL-safe."""
        return base64.urlsafe_b64encode(self.bytes(size)).rstrip(b"=").decode("ascii")


@frozen
class AuthorizationRequest:
    """A checked authorization request (RFC 6749 section 4.1.1 with PKCE and OpenID Connect)."""

    client_id: str
    redirect_uri: str
    scope: str | None
    state: str | None
    nonce: str | None
    code_challenge: str | None
    code_challenge_method: str
    prompt: str | None = None


@define
class Attempt:
    """A login form that was shown; ``code`` changes with every showing, as Keycloak's session_code does."""

    request: AuthorizationRequest
    code: str


@define
class Chain:
    """The refresh tokens that came of one login, one behind the other (Keycloak's ``reuse_id``)."""

    #: The ``jti`` of the one that was used last, and how often.
    current: str | None = None
    uses: int = 0
    #: When the newest was issued, in whole seconds.
    refreshed_at: int = 0

    def use(self, jti: str, issued_at: int, *, max_reuse: int, now: int) -> str | None:
        """Count a refresh with the token ``jti``; return what Keycloak has against it, or ``None``.

        Within one second nothing is older than the rest: an overtaken token becomes the current one again.
        """
        if jti != self.current:
            if self.current is not None and issued_at < self.refreshed_at:
                return "Stale token"
            self.current, self.uses = jti, 0
        if self.uses > max_reuse:
            return "Maximum allowed refresh token reuse exceeded"
        self.uses += 1
        self.refreshed_at = now
        return None


@define
class ClientSession:
    """One client's share of a session: the chains of its refresh tokens, by ``reuse_id``."""

    chains: defaultdict[str, Chain] = field(factory=lambda: defaultdict(Chain))


@define
class Session:
    """A user who is logged in; ``sid`` is its public name, ``clients`` who has tokens of it."""

    sid: str
    user: User
    auth_time: int
    clients: dict[str, ClientSession] = field(factory=dict)


@frozen
class Code:
    """An authorization code's meaning; ``fresh`` tells a login from single sign-on (the ``acr`` claim)."""

    request: AuthorizationRequest
    session: Session
    expires_at: float
    fresh: bool


@define
class Memory:
    """All of one realm's state. Nothing is removed by time: a demo and a test are short."""

    #: Login forms by (authentication session cookie, tab).
    attempts: dict[tuple[str, str], Attempt] = field(factory=dict)
    #: Single sign-on cookie to session.
    identities: dict[str, Session] = field(factory=dict)
    sessions: dict[str, Session] = field(factory=dict)
    codes: dict[str, Code] = field(factory=dict)
    #: Codes that were redeemed, so that their second use ends what the first one began.
    redeemed: dict[str, Code] = field(factory=dict)

    def end_session(self, session: Session) -> None:
        """Log the user out everywhere."""
        self.sessions.pop(session.sid, None)
        self.identities = {cookie: kept for cookie, kept in self.identities.items() if kept is not session}
