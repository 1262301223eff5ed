"""Values that leave the process and come back unread and unchanged: sealed, or signed.

Sealed values are Fernet tokens (AES-128-CBC with HMAC-SHA256) under a key of their own for each
purpose, so that what was sealed as a registration can never be opened as a refresh token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, Self

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mcp_oauth2_proxy.config.model import Auth
from mcp_oauth2_proxy.facade.errors import SealError

#: Characters of a sealed value that are looked at: above the largest we make (a flow with its client).
MAX_SEALED = 48 * 1024
#: Seconds by which another replica's clock may be ahead; Fernet's own figure.
CLOCK_SKEW = 60


class Purpose(Enum):
    """What a value is sealed or signed for."""

    CLIENT = "client registration"
    CLIENT_SECRET = "client secret"  # noqa: S105 (a purpose's name)
    CONSENT = "consent form"
    REMEMBERED = "remembered consent"
    STATE = "login state"
    FLOW = "login flow"
    CODE = "authorization code"
    REFRESH = "refresh token"
    ANSWER = "refresh answer"
    ENDING = "session ending"
    COPY = "copy of a document"


class Sealer:
    """Seals and signs with the first key; opens and verifies with every key: that is rotation.

    ``keys`` are secrets of any length and ``now`` returns the time in seconds since the epoch.
    """

    def __init__(self, keys: Sequence[bytes], now: Callable[[], float]) -> None:
        if not keys:
            raise ValueError("a Sealer needs at least one key")
        self._now = now
        derive = cache(_derive)
        self._fernets = {
            purpose: MultiFernet(
                [Fernet(base64.urlsafe_b64encode(derive(key, f"seal {purpose.value}"))) for key in keys]
            )
            for purpose in Purpose
        }
        self._mac_keys = {
            purpose: [derive(key, f"mac {purpose.value}") for key in keys] for purpose in Purpose
        }

    @classmethod
    def from_config(cls, auth: Auth, now: Callable[[], float]) -> Self:
        """Return a sealer over ``auth.sealingKeys``, by default over a key derived from ``clientSecret``."""
        keys = auth.sealing_keys or (auth.client_secret,)
        return cls([key.reveal().encode("utf-8") for key in keys], now)

    def seal(self, purpose: Purpose, value: Mapping[str, Any]) -> str:
        """Return ``value`` (of JSON types) as a URL-safe token without padding."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        token = self._fernets[purpose].encrypt_at_time(text.encode("utf-8"), int(self._now()))
        return token.decode("ascii").rstrip("=")

    def open(self, purpose: Purpose, token: str, ttl: float | None = None) -> dict[str, Any]:
        """Return what was sealed for ``purpose``, at most ``ttl`` seconds ago (``None`` or 0: ever).

        Raises :exc:`SealError`.
        """
        value, sealed_at = self._open(purpose, token)
        age = self._now() - sealed_at
        if ttl and (age > ttl or age < -CLOCK_SKEW):
            raise SealError(f"{purpose.value} is {age:.0f} s old, and good for {ttl:g} s", expired=True)
        return value

    def sealed_at(self, purpose: Purpose, token: str) -> int:
        """Return when ``token`` was sealed, in seconds since the epoch. Raises :exc:`SealError`."""
        return self._open(purpose, token)[1]

    def _open(self, purpose: Purpose, token: str) -> tuple[dict[str, Any], int]:
        if len(token) > MAX_SEALED:
            raise SealError(f"{purpose.value} is too long")
        if "=" in token:
            raise SealError(f"{purpose.value} is not a token")
        try:
            raw = token.encode("ascii")
            raw += b"=" * (-len(raw) % 4)
            # Python's decoder skips foreign characters and spare bits: without this comparison one
            # token could be spelled in many ways, each with another digest.
            if base64.urlsafe_b64encode(base64.urlsafe_b64decode(raw)) != raw:
                raise SealError(f"{purpose.value} is not a token")
            fernet = self._fernets[purpose]
            value = json.loads(fernet.decrypt(raw))
            sealed_at = fernet.extract_timestamp(raw)
        except (InvalidToken, ValueError, RecursionError):
            raise SealError(f"{purpose.value} does not open") from None
        if not isinstance(value, dict):
            raise SealError(f"{purpose.value} is not a record")
        return value, sealed_at

    def mac(self, purpose: Purpose, message: str) -> str:
        """Return a URL-safe HMAC-SHA256 of ``message``, 43 characters."""
        return _mac(self._mac_keys[purpose][0], message)

    def verify_mac(self, purpose: Purpose, message: str, mac: str) -> bool:
        """Return whether ``mac`` belongs to ``message`` under any key; in constant time."""
        given = mac.encode("utf-8", "surrogatepass")
        matches = [
            hmac.compare_digest(_mac(key, message).encode("ascii"), given) for key in self._mac_keys[purpose]
        ]
        return any(matches)


def digest(*parts: str) -> str:
    """Return a URL-safe SHA-256 over ``parts``, 43 characters: a name for a secret that does not tell it."""
    sha = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        sha.update(len(raw).to_bytes(8, "big") + raw)
    return base64.urlsafe_b64encode(sha.digest()).decode("ascii").rstrip("=")


def _derive(key: bytes, info: str) -> bytes:
    kdf = HKDF(algorithm=SHA256(), length=32, salt=b"mcp-oauth2-proxy", info=info.encode("ascii"))
    return kdf.derive(key)


def _mac(key: bytes, message: str) -> str:
    raw = hmac.digest(key, message.encode("utf-8", "surrogatepass"), "sha256")
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")
