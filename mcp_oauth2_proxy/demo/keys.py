"""The realm's keys: what signs its tokens, what it publishes, and rotation."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jwt
from attrs import define, field
from cryptography.hazmat.primitives.asymmetric import rsa

_KEY_BITS = 2048


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _number(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@define
class RsaKey:
    """One RSA key pair; ``kid`` is its thumbprint (RFC 7638)."""

    private: rsa.RSAPrivateKey = field(repr=False)
    algorithm: str
    use: str

    @classmethod
    def generate(cls, algorithm: str, use: str) -> RsaKey:
        """Make a new key."""
        return cls(rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS), algorithm, use)

    def _public(self) -> dict[str, str]:
        numbers = self.private.public_key().public_numbers()
        return {"e": _number(numbers.e), "kty": "RSA", "n": _number(numbers.n)}

    @property
    def kid(self) -> str:
        """Return the key id."""
        canonical = json.dumps(self._public(), separators=(",", ":"), sort_keys=True)
        return _base64url(hashlib.sha256(canonical.encode("ascii")).digest())

    def jwk(self) -> dict[str, str]:
        """Return the public half as the key set shows it."""
        return {"kid": self.kid, "alg": self.algorithm, "use": self.use, **self._public()}


class RealmKeys:
    """An active RS256 key, passive ones that still verify, an encryption key, and an HS512 secret.

    The secret signs what only the realm itself reads again: refresh tokens are opaque to everybody else.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._signing = [RsaKey.generate("RS256", "sig")]
        self._encryption = RsaKey.generate("RSA-OAEP", "enc")

    @property
    def active(self) -> RsaKey:
        """Return the key that signs new tokens."""
        return self._signing[0]

    def rotate(self) -> None:
        """Sign with a new key from now on; the ones before stay published as passive keys."""
        self._signing.insert(0, RsaKey.generate("RS256", "sig"))

    def jwks(self) -> dict[str, Any]:
        """Return the key set document (RFC 7517)."""
        return {"keys": [key.jwk() for key in (*self._signing, self._encryption)]}

    def sign(self, claims: Mapping[str, Any], *, typ: str = "JWT") -> str:
        """Return a signed token that everybody can verify; ``typ`` is for its header."""
        headers = {"kid": self.active.kid, "typ": typ}
        return jwt.encode(dict(claims), self.active.private, algorithm="RS256", headers=headers)

    def seal(self, claims: Mapping[str, Any]) -> str:
        """Return a token that only this realm can verify."""
        return jwt.encode(dict(claims), self._secret, algorithm="HS512")

    def verify(self, token: str) -> dict[str, Any] | None:
        """Return the claims of an RS256 token of this realm, whatever its age; ``None`` for any other."""
        for key in self._signing:
            claims = _decode(token, key.private.public_key(), "RS256")
            if claims is not None:
                return claims
        return None

    def open(self, token: str) -> dict[str, Any] | None:
        """Return the claims of a sealed token; ``None`` for anything else. The caller judges its age."""
        return _decode(token, self._secret, "HS512")


def _decode(token: str, key: Any, algorithm: str) -> dict[str, Any] | None:
    try:
        return dict(
            jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                options={"verify_exp": False, "verify_aud": False, "verify_iat": False, "verify_nbf": False},
            )
        )
    except jwt.InvalidTokenError:
        return None
