"""The gate: an Authorization header in, an identity or a refusal out."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256

from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.gate.model import Identity, Reason, Refusal
from mcp_oauth2_proxy.gate.policy import Policy
from mcp_oauth2_proxy.gate.rules import MAX_TOKEN_BYTES, judge, missing_scope, wrong_audience

#: Most verified tokens remembered; about 2 KB each with their claims.
MAX_REMEMBERED = 10_000

#: RFC 6750 section 2.1, with the size bound built in so that the expression cannot be made to work long.
_CREDENTIALS = re.compile(rb"bearer +([A-Za-z0-9\-._~+/]+=*) *", re.IGNORECASE)


class Gate:
    """Judges requests, and remembers tokens whose signature it has already checked.

    What is remembered is a token's SHA-256, never the token, until it expires. Only its signature
    and fixed claims are taken from memory: expiry, signing key, audience and scopes are asked anew
    for each request, so that a key withdrawn from the realm ends its tokens at once.
    """

    def __init__(self, policy: Policy, *, max_remembered: int = MAX_REMEMBERED) -> None:
        self.policy = policy
        self._max_remembered = max_remembered
        self._verified: OrderedDict[bytes, Identity] = OrderedDict()

    def __len__(self) -> int:
        return len(self._verified)

    def check(
        self, authorization: Sequence[bytes], *, resource: str, keys: KeySet, now: float
    ) -> Identity | Refusal:
        """Judge the values of a request's Authorization headers for ``resource`` at ``now``."""
        token = bearer_token(authorization)
        if isinstance(token, Refusal):
            return token
        digest = sha256(token).digest()
        identity = self._verified.get(digest)
        if identity is not None and (now >= identity.expires_at or not _key_in_force(identity, keys)):
            del self._verified[digest]
            identity = None
        if identity is None:
            verdict = judge(token.decode("ascii"), keys=keys, policy=self.policy, now=now)
            if isinstance(verdict, Refusal):
                return verdict
            identity = verdict
            self._remember(digest, identity)
        return (
            wrong_audience(identity, self.policy, resource)
            or missing_scope(identity, self.policy)
            or identity
        )

    def _remember(self, digest: bytes, identity: Identity) -> None:
        self._verified[digest] = identity
        if len(self._verified) > self._max_remembered:
            self._verified.popitem(last=False)


def _key_in_force(identity: Identity, keys: KeySet) -> bool:
    return identity.key_id in keys if identity.key_id is not None else len(keys) > 0


def bearer_token(authorization: Sequence[bytes]) -> bytes | Refusal:
    """Return the token of the Authorization header (RFC 6750 section 2.1), the only place it may be in."""
    if not authorization:
        return Refusal(Reason.MISSING, "a Bearer token is required")
    if len(authorization) > 1:
        return Refusal(Reason.MALFORMED, "more than one Authorization header was sent")
    if len(authorization[0]) > MAX_TOKEN_BYTES:
        return Refusal(Reason.TOO_LARGE, "the token is too large")
    match = _CREDENTIALS.fullmatch(authorization[0])
    if match is None:
        if authorization[0][:6].lower() != b"bearer":
            return Refusal(
                Reason.MISSING, "a Bearer token is required", "another authentication scheme was used"
            )
        return Refusal(Reason.MALFORMED, "the Authorization header is not a Bearer token")
    return match[1]
