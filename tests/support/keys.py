"""Signing keys and tokens in Keycloak's shape, for every test that needs one.

Keys are made once a process: a 2048-bit RSA key takes tens of milliseconds.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from mcp_oauth2_proxy.gate.keys import KeySet

ISSUER = "https://id.example/realms/demo"
CLIENT_ID = "mcp-proxy"
RESOURCE = "https://mcp.example/mcp"
#: The moment at which :func:`access_claims` were issued.
NOW = 1_800_000_000

_CURVES: dict[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "secp256k1": ec.SECP256K1(),
}
_CURVE_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "secp256k1": "ES256K"}


@frozen
class Signer:
    """A private key with the ``kid`` and ``alg`` it is published under."""

    kid: str | None
    algorithm: str
    private: Any = field(repr=False)

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Return the public half as a realm publishes it; a change to ``None`` leaves a member out."""
        family = jwt.get_algorithm_by_name(self.algorithm)
        public: dict[str, Any] = json.loads(family.to_jwk(self.private.public_key()))
        public.pop("key_ops", None)
        members = {"kid": self.kid, "use": "sig", "alg": self.algorithm, **public, **changes}
        return {name: value for name, value in members.items() if value is not None}


@cache
def rsa_key(kid: str | None = "rsa", algorithm: str = "RS256", bits: int = 2048) -> Signer:
    """Return the RSA key of that name: the same one each time."""
    return Signer(kid, algorithm, rsa.generate_private_key(public_exponent=65537, key_size=bits))


@cache
def ec_key(kid: str | None = "ec", curve: str = "P-256") -> Signer:
    """Return the elliptic-curve key of that name."""
    return Signer(kid, _CURVE_ALGORITHMS[curve], ec.generate_private_key(_CURVES[curve]))


@cache
def ed_key(kid: str | None = "ed", curve: str = "Ed25519") -> Signer:
    """Return the Edwards-curve key of that name."""
    makers: dict[str, Any] = {"Ed25519": ed25519.Ed25519PrivateKey, "Ed448": ed448.Ed448PrivateKey}
    return Signer(kid, "EdDSA", makers[curve].generate())


def jwks(*keys: Signer) -> dict[str, Any]:
    """Return the key set document that publishes ``keys``."""
    return {"keys": [key.jwk() for key in keys]}


def key_set(*keys: Signer) -> KeySet:
    """Return ``keys`` as the gate knows them."""
    return KeySet.from_jwks(jwks(*keys))


def access_claims(*, now: float = NOW, **changes: Any) -> dict[str, Any]:
    """Return the claims of a Keycloak access token; a change to ``None`` leaves a claim out."""
    claims = {
        "exp": int(now) + 300,
        "iat": int(now),
        "auth_time": int(now),
        "jti": "onrtac:7c1f",
        "iss": ISSUER,
        "aud": "account",
        "sub": "8e0b8f5c-3d0e-4b8e-9a53-6d2f3c1a7b10",
        "typ": "Bearer",
        "azp": CLIENT_ID,
        "sid": "f2a7",
        "scope": "openid profile mcp:read",
        "realm_access": {"roles": ["offline_access"]},
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def id_claims(*, nonce: Any, now: float = NOW, **changes: Any) -> dict[str, Any]:
    """Return the claims of a Keycloak ID token for :data:`CLIENT_ID`."""
    changes = {"typ": "ID", "aud": CLIENT_ID, "nonce": nonce, "scope": None, "realm_access": None, **changes}
    return access_claims(now=now, **changes)


def logout_claims(*, now: float = NOW, **changes: Any) -> dict[str, Any]:
    """Return the claims of a Keycloak logout token for :data:`CLIENT_ID`."""
    claims = {
        "exp": int(now) + 120,
        "iat": int(now),
        "jti": "logout-1",
        "iss": ISSUER,
        "aud": CLIENT_ID,
        "sub": "8e0b8f5c-3d0e-4b8e-9a53-6d2f3c1a7b10",
        "typ": "Logout",
        "sid": "f2a7",
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def make_token(
    claims: Mapping[str, Any], key: Signer | None = None, headers: Mapping[str, Any] | None = None
) -> str:
    """Return ``claims`` signed by ``key`` (default: :func:`rsa_key`); a header of ``None`` is left out."""
    key = key or rsa_key()
    header = {"alg": key.algorithm, "typ": "JWT", "kid": key.kid, **(headers or {})}
    header = {name: value for name, value in header.items() if value is not None}
    return sign_raw(json.dumps(header).encode(), json.dumps(dict(claims)).encode(), key)


def sign_raw(header: bytes, payload: bytes, key: Signer) -> str:
    """Return a compact JWS over exactly these bytes, however odd they are, with a good signature."""
    signing_input = base64url(header) + b"." + base64url(payload)
    family: Any = jwt.get_algorithm_by_name(key.algorithm)
    return (signing_input + b"." + base64url(family.sign(signing_input, key.private))).decode("ascii")


def base64url(data: bytes) -> bytes:
    """Return unpadded base64url (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")
