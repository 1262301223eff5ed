"""What can go wrong in the facade: one tree, and one table of the reasons that the log carries."""

from __future__ import annotations

import math
from enum import Enum

from mcp_oauth2_proxy.ops.limits import Limited


class Reason(Enum):
    """Why a request was refused. The value is the reason code in the log; it never changes its meaning."""

    BODY_TOO_LARGE = "body_too_large"
    BODY_INCOMPLETE = "body_incomplete"
    CONTENT_TYPE = "content_type"
    MALFORMED = "parameters_malformed"
    REPEATED = "parameter_repeated"
    MISSING = "parameter_missing"
    UNSUPPORTED = "parameter_unsupported"
    METADATA = "client_metadata"
    REDIRECT_URI = "redirect_uri_forbidden"
    REDIRECT_MISMATCH = "redirect_uri_mismatch"
    CLIENT_MISSING = "client_missing"
    CLIENT_UNKNOWN = "client_unknown"
    CLIENT_EXPIRED = "client_expired"
    CLIENT_DOCUMENT = "client_document_refused"
    CLIENT_DOCUMENT_DOWN = "client_document_unavailable"
    CLIENT_ASSERTION = "client_assertion_refused"
    REGISTRATION_OFF = "registration_off"
    REGISTRATION_TOKEN = "registration_token_wrong"  # noqa: S105 (the name of a reason)
    REDIRECT_DENIED = "redirect_uri_denied"
    CLIENT_SECRET = "client_secret_wrong"  # noqa: S105 (the name of a reason)
    CLIENT_METHODS = "client_two_methods"
    GRANT_FORBIDDEN = "grant_not_registered"
    PKCE = "pkce"
    RESOURCE = "resource_foreign"
    CONSENT_FORGED = "consent_forged"
    CONSENT_EXPIRED = "consent_expired"
    CONSENT_BROWSER = "consent_other_browser"
    CONSENT_DENIED = "consent_denied"
    STATE_UNKNOWN = "state_unknown"
    STATE_BROWSER = "state_other_browser"
    ISSUER = "callback_issuer"
    LOGIN_REFUSED = "login_refused"
    LOGIN_EXPIRED = "login_expired"
    ID_TOKEN = "id_token_invalid"  # noqa: S105 (the name of a reason)
    CODE_UNKNOWN = "code_unknown"
    CODE_REUSED = "code_reused"
    CODE_BINDING = "code_binding"
    REFRESH_UNKNOWN = "refresh_token_unknown"
    REFRESH_REUSED = "refresh_token_reused"
    REFRESH_ENDED = "refresh_session_ended"
    LOGOUT_TOKEN = "logout_token_refused"  # noqa: S105 (the name of a reason)
    LOGOUT_REPLAYED = "logout_token_replayed"
    REALM_UNREADY = "realm_unready"
    KEYCLOAK_DOWN = "keycloak_unavailable"
    KEYCLOAK_REFUSED = "keycloak_refused_proxy"
    STORE_DOWN = "store_unavailable"
    RATE_LIMITED = "rate_limited"
    NOT_FOUND = "not_found"
    METHOD = "method_not_allowed"
    INTERNAL = "internal"


class FacadeError(Exception):
    """Everything that the facade raises on purpose."""


class SealError(FacadeError):
    """A sealed value does not open: forged, damaged, of another purpose, or (``expired``) too old."""

    def __init__(self, message: str, *, expired: bool = False) -> None:
        super().__init__(message)
        self.expired = expired


class OAuthError(FacadeError):
    """A refusal as RFC 6749 section 5.2 words it.

    ``code`` is the OAuth error code, ``status`` the HTTP status, ``description`` is safe to show to
    anybody, ``reason`` goes to the log together with ``detail``, which holds no secret.
    """

    def __init__(self, code: str, status: int, description: str, *, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{code}: {description}")
        self.code = code
        self.status = status
        self.description = description
        self.reason = reason
        self.detail = detail


class ClientAuthenticationError(OAuthError):
    """The client is not who it says it is; ``basic`` says whether it tried HTTP Basic (RFC 6749 5.2)."""

    def __init__(self, description: str, *, reason: Reason, basic: bool, detail: str = "") -> None:
        super().__init__("invalid_client", 401, description, reason=reason, detail=detail)
        self.basic = basic


class MethodNotAllowedError(OAuthError):
    """The endpoint does not know the request's method; ``allowed`` is what it knows."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__("invalid_request", 405, f"use {' or '.join(allowed)} here", reason=Reason.METHOD)
        self.allowed = allowed


class RateLimitedError(OAuthError):
    """Too many requests; ``retry_after`` is in seconds. ``refused`` is ``None`` where the log knows already.

    The code is one that clients show and act upon by nothing: they keep their registration and tokens.
    """

    def __init__(self, limited: Limited) -> None:
        super().__init__(
            "temporarily_unavailable",
            429,
            "there are too many requests, try again later",
            reason=Reason.RATE_LIMITED,
            detail=f"by {limited.setting}, {limited.refused} refused since the last such line",
        )
        self.retry_after = max(1, math.ceil(limited.retry_after))
        self.is_told = limited.refused is not None


class RegistrationTokenError(OAuthError):
    """Registration asks for an initial access token, which is missing or wrong (RFC 7591 section 3)."""

    def __init__(self, description: str) -> None:
        super().__init__("invalid_token", 401, description, reason=Reason.REGISTRATION_TOKEN)


class RedirectedError(OAuthError):
    """A refusal that travels to the client by redirect, its redirect URI being proven (RFC 6749 4.1.2.1).

    ``unasked`` says that the client made itself known and nobody has been asked about it yet: a link to such
    a refusal would lead whoever follows it wherever its maker likes (RFC 9700 section 4.11.2).
    """

    def __init__(
        self, cause: OAuthError, *, redirect_uri: str, state: str | None, unasked: bool = False
    ) -> None:
        super().__init__(
            cause.code, cause.status, cause.description, reason=cause.reason, detail=cause.detail
        )
        self.redirect_uri = redirect_uri
        self.state = state
        self.unasked = unasked


def invalid_request(description: str, reason: Reason, detail: str = "") -> OAuthError:
    """Return the error for a request that is malformed: 400 ``invalid_request``."""
    return OAuthError("invalid_request", 400, description, reason=reason, detail=detail)


def unavailable(description: str, reason: Reason, detail: str = "") -> OAuthError:
    """Return the error for what may work in a moment: 503 ``temporarily_unavailable``."""
    return OAuthError("temporarily_unavailable", 503, description, reason=reason, detail=detail)
