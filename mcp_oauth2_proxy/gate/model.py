"""The values the gate deals in."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import field, frozen


class Reason(Enum):
    """Why a token is refused. The value is the reason code that the log carries."""

    MISSING = "token_missing"
    MALFORMED = "token_malformed"
    TOO_LARGE = "token_too_large"
    HEADER_TYPE = "token_header_type"
    ALGORITHM = "token_algorithm"
    UNKNOWN_KEY = "token_unknown_key"
    SIGNATURE = "token_signature"
    EXPIRED = "token_expired"
    NO_EXPIRY = "token_no_expiry"
    NOT_YET_VALID = "token_not_yet_valid"
    ISSUER = "token_issuer"
    TYPE = "token_type"
    BOUND = "token_sender_bound"
    AUDIENCE = "token_audience"
    SCOPE = "token_scope"
    ENDED = "token_session_ended"
    INACTIVE = "token_inactive"


@frozen
class Identity:
    """Whom a verified access token speaks for. ``claims`` stay out of every ``repr``."""

    subject: str | None
    client: str | None
    scopes: frozenset[str]
    audiences: frozenset[str]
    expires_at: float
    key_id: str | None
    #: Keycloak's ``sid``; lightweight tokens and service accounts may have none.
    session: str | None
    issued_at: float | None
    claims: Mapping[str, Any] = field(repr=False)


@frozen
class Refusal:
    """Why not. ``description`` is safe to show to the client; ``detail`` is for the log, never a token."""

    reason: Reason
    description: str
    detail: str = ""
    #: The key id the token asked for, where that is what is missing: one refetch may cure it.
    key_id: str | None = None
