"""The gate: an Authorization header in, an identity or a refusal out."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256

from attrs import frozen

from mcp_oauth2_proxy.gate.endings import Endings
from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.gate.model import Identity, Reason, Refusal
from mcp_oauth2_proxy.gate.policy import Policy
from mcp_oauth2_proxy.gate.rules import (
    MAX_TOKEN_BYTES,
    ended,
    judge,
    meant_for_everything,
    missing_scope,
    wrong_audience,
)

#: Most verified tokens remembered.
MAX_REMEMBERED = 10_000
#: Bytes of token text that what is remembered stands for; the claims take about three times as much.
MAX_REMEMBERED_BYTES = 16 * 1024 * 1024

#: RFC 6750 section 2.1; every alternative is one character wide, so that matching stays linear.
_CREDENTIALS = re.compile(rb"bearer +([A-Za-z0-9\-._~+/]+=*) *", re.IGNORECASE)


@frozen
class _Verified:
    """A token with a good signature and good fixed claims, and what follows from the policy alone."""

    identity: Identity
    size: int
    everywhere: bool
    missing_scope: Refusal | None


class Gate:
    """Judges requests, and remembers tokens whose signature it has already checked.

    What is remembered is the header's SHA-256, never the token, until it expires or others need the room:
    the least recently used goes first. Expiry, signing key and audience are asked anew for each request,
    so that a key withdrawn from the realm ends its tokens at once, as a logout does (``endings``). Refusals
    are not remembered: forged tokens would push out the good ones, and a refusal may be cured (a clock, a
    key) in the next second.
    """

    def __init__(
        self,
        policy: Policy,
        endings: Endings,
        *,
        max_remembered: int = MAX_REMEMBERED,
        max_remembered_bytes: int = MAX_REMEMBERED_BYTES,
    ) -> None:
        self.policy = policy
        self._endings = endings
        self._max_remembered = max_remembered
        self._max_bytes = max_remembered_bytes
        self._bytes = 0
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    def __len__(self) -> int:
        return len(self._verified)

    def check(
        self,
        authorization: Sequence[bytes],
        *,
        resource: str,
        keys: KeySet,
        now: float,
        digest: bytes | None = None,
    ) -> Identity | Refusal:
        """Judge the values of a request's Authorization headers for ``resource`` at ``now``.

        ``now`` is seconds since the epoch, ``digest`` the :func:`digest_of` those values, where the caller
        has it from an earlier request. A refusal for :attr:`Reason.UNKNOWN_KEY` names the key that
        one refetch of the key set may bring.
        """
        if digest is None:
            digest = digest_of(authorization)
        verified = self._recall(digest, keys, now)
        if verified is None:
            token = bearer_token(authorization)
            if isinstance(token, Refusal):
                return token
            identity = judge(token.decode("ascii"), keys=keys, policy=self.policy, now=now)
            if isinstance(identity, Refusal):
                return identity
            verified = self._remember(digest, identity, len(token))
        if self._endings.moments and (refusal := self.ended(verified.identity)) is not None:
            return refusal
        if not verified.everywhere:
            refusal = wrong_audience(verified.identity, self.policy, resource)
            if refusal is not None:
                return refusal
        return verified.missing_scope or verified.identity

    def ended(self, identity: Identity) -> Refusal | None:
        """Return why ``identity`` is let in no longer since its session has ended."""
        return ended(identity, self._endings)

    def _recall(self, digest: bytes, keys: KeySet, now: float) -> _Verified | None:
        verified = self._verified.get(digest)
        if verified is None:
            return None
        if now >= verified.identity.expires_at or verified.identity.key_id not in keys:
            self._forget(digest)
            return None
        self._verified.move_to_end(digest)
        return verified

    def _remember(self, digest: bytes, identity: Identity, size: int) -> _Verified:
        policy = self.policy
        verified = _Verified(
            identity, size, meant_for_everything(identity, policy), missing_scope(identity, policy)
        )
        if identity.key_id is not None:  # without one, nothing would tell that its key was withdrawn
            self._verified[digest] = verified
            self._bytes += size
            while len(self._verified) > self._max_remembered or self._bytes > self._max_bytes:
                self._forget(next(iter(self._verified)))
        return verified

    def _forget(self, digest: bytes) -> None:
        self._bytes -= self._verified.pop(digest).size


def digest_of(authorization: Sequence[bytes]) -> bytes:
    """Return what the credentials are remembered by; what cannot be good has no digest of its own.

    The header is hashed as it came, so that a remembered one need not be parsed again.
    """
    if len(authorization) != 1 or len(authorization[0]) > MAX_TOKEN_BYTES:
        return b""
    return sha256(authorization[0]).digest()


def bearer_token(authorization: Sequence[bytes]) -> bytes | Refusal:
    """Return the token of the Authorization header (RFC 6750 section 2.1), the only place it may be in."""
    if not authorization:
        return Refusal(Reason.MISSING, "a Bearer token is required")
    if len(authorization) > 1:
        return Refusal(Reason.MALFORMED, "more than one Authorization header was sent")
    credentials = authorization[0]
    if len(credentials) > MAX_TOKEN_BYTES:
        return Refusal(
            Reason.TOO_LARGE,
            "the token is too large",
            f"{len(credentials)} bytes of credentials, at most {MAX_TOKEN_BYTES}",
        )
    match = _CREDENTIALS.fullmatch(credentials)
    if match is None:
        if credentials.partition(b" ")[0].lower() != b"bearer":
            return Refusal(
                Reason.MISSING, "a Bearer token is required", "another authentication scheme was used"
            )
        return Refusal(Reason.MALFORMED, "the Authorization header is not a Bearer token")
    return match[1]
