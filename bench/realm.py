"""A realm that never changes: one RSA key, its two documents, and tokens as Keycloak signs them."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import jwt
from attrs import frozen
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

CLIENT_ID = "mcp-proxy"
#: Seconds a token lives: longer than any run.
LIFETIME = 86_400
KEY_ID = "FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE"


@frozen
class Realm:
    """An issuer with its signing key."""

    issuer: str
    key: rsa.RSAPrivateKey

    @classmethod
    def create(cls, issuer: str) -> Realm:
        """Return a realm with a new RSA-2048 key, which is Keycloak's default."""
        return cls(issuer, rsa.generate_private_key(public_exponent=65537, key_size=2048))

    def discovery(self) -> dict[str, Any]:
        """Return the discovery document, as far as anybody reads it."""
        protocol = f"{self.issuer}/protocol/openid-connect"
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{protocol}/auth",
            "token_endpoint": f"{protocol}/token",
            "jwks_uri": f"{protocol}/certs",
            "end_session_endpoint": f"{protocol}/logout",
            "scopes_supported": ["openid", "profile", "email"],
        }

    def jwks(self) -> dict[str, Any]:
        """Return the key set."""
        public = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        named = {
            "kid": KEY_ID,
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "n": public["n"],
            "e": public["e"],
        }
        return {"keys": [named]}

    def token(self) -> str:
        """Return a new access token for the proxy's client, with the claims that Keycloak puts in."""
        now = int(time.time())
        claims = {
            "exp": now + LIFETIME,
            "iat": now,
            "auth_time": now,
            "jti": f"onrtac:{uuid.uuid4()}",
            "iss": self.issuer,
            "aud": "account",
            "sub": "0f2b9f62-6e1c-4a53-9c1e-7a4a2c7f0d11",
            "typ": "Bearer",
            "azp": CLIENT_ID,
            "sid": "0b9c7c3e-3d75-4d53-8b6c-5f9c5d5f3f35",
            "acr": "1",
            "allowed-origins": ["https://mcp.example.com"],
            "realm_access": {"roles": ["default-roles-bench", "offline_access", "uma_authorization"]},
            "resource_access": {
                "account": {"roles": ["manage-account", "manage-account-links", "view-profile"]}
            },
            "scope": "openid profile email",
            "email_verified": True,
            "name": "Ada Lovelace",
            "preferred_username": "ada",
            "given_name": "Ada",
            "family_name": "Lovelace",
            "email": "ada@example.com",
        }
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": KEY_ID})

    def documents(self) -> dict[str, str]:
        """Return what the realm serves, by the path under its host."""
        path = "/" + self.issuer.split("/", 3)[3]
        return {
            f"{path}/.well-known/openid-configuration": json.dumps(self.discovery()),
            f"{path}/protocol/openid-connect/certs": json.dumps(self.jwks()),
        }
