"""Tokens in Keycloak's shape: which claims an access, an ID and a refresh token carry."""

from __future__ import annotations

import base64
import hashlib
import uuid
from typing import Any

from mcp_oauth2_proxy.demo.keys import RealmKeys
from mcp_oauth2_proxy.demo.realm import SILENT_SCOPES, Client, RealmDefinition, User
from mcp_oauth2_proxy.demo.sessions import Randomness, Session

#: How Keycloak marks an access token's ``jti`` by the grant that made it.
GRANT_MARKS = {"authorization_code": "onrtac", "refresh_token": "onrtrt", "password": "onrtro"}


def subject(realm: RealmDefinition, user: User) -> str:
    """Return the user's id: stable over restarts, different in every realm."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:demo:{realm.name}:{user.username}"))


def _profile(user: User, scopes: tuple[str, ...]) -> dict[str, Any]:
    """Return the claims that the scopes ``email`` and ``profile`` bring."""
    claims: dict[str, Any] = {}
    if "email" in scopes:
        claims["email_verified"] = True
    if "profile" in scopes:
        claims["name"] = f"{user.given_name} {user.family_name}"
        claims["preferred_username"] = user.username
        claims["given_name"] = user.given_name
        claims["family_name"] = user.family_name
    if "email" in scopes:
        claims["email"] = user.email
    return claims


def issue(
    realm: RealmDefinition,
    keys: RealmKeys,
    randomness: Randomness,
    *,
    issuer: str,
    client: Client,
    session: Session,
    scopes: tuple[str, ...],
    held: tuple[str, ...],
    grant_type: str,
    reuse_id: str,
    now: int,
    nonce: str | None = None,
    fresh: bool = True,
) -> dict[str, Any]:
    """Return the token endpoint's successful answer (RFC 6749 section 5.1, OpenID Connect Core 3.1.3.3).

    ``scopes`` are those of the access token, ``held`` those that the refresh token stands for;
    ``reuse_id`` names the login that it came of.
    """
    common = {
        "iat": now,
        "iss": issuer,
        "sub": subject(realm, session.user),
        "azp": client.client_id,
        "sid": session.sid,
    }
    dated = {**common, "exp": now + realm.access_token_lifespan, "acr": "1" if fresh else "0"}
    if grant_type != "password":
        dated["auth_time"] = session.auth_time
    profile = _profile(session.user, scopes)
    mark = f"{GRANT_MARKS[grant_type]}:{randomness.uuid()}"
    access = {**dated, "jti": mark, **_access_claims(realm, client, scopes), **profile}
    access_token = keys.sign(access)
    chained = {"jti": randomness.uuid(), "reuse_id": reuse_id, "aud": issuer}
    refresh = {**common, **chained, **_refresh_claims(realm, held, now)}
    body: dict[str, Any] = {
        "access_token": access_token,
        "expires_in": realm.access_token_lifespan,
        "refresh_expires_in": realm.session_idle if "exp" in refresh else 0,
        "refresh_token": keys.seal(refresh),
        "token_type": "Bearer",
    }
    if "openid" in held:
        told = {"aud": client.client_id, "typ": "ID", "at_hash": _half_hash(access_token), **profile}
        id_claims = {**dated, "jti": randomness.uuid(), **told}
        body["id_token"] = keys.sign({**id_claims, "nonce": nonce} if nonce is not None else id_claims)
    return body | {"not-before-policy": 0, "session_state": session.sid, "scope": " ".join(scopes)}


def _access_claims(realm: RealmDefinition, client: Client, scopes: tuple[str, ...]) -> dict[str, Any]:
    """Return what only an access token says: whom it is for, and what may be done with it."""
    account = ["manage-account", "manage-account-links", "view-profile"]
    return {
        "aud": [*client.audiences, "account"] if client.audiences else "account",
        "typ": "Bearer",
        "realm_access": {"roles": [f"default-roles-{realm.name}", "offline_access", "uma_authorization"]},
        "resource_access": {"account": {"roles": account}},
        "scope": " ".join(scopes),
    }


def _refresh_claims(realm: RealmDefinition, held: tuple[str, ...], now: int) -> dict[str, Any]:
    """Return what only a refresh token says; one for offline use has no end."""
    scope = " ".join((*held, *SILENT_SCOPES))
    if "offline_access" in held:
        return {"typ": "Offline", "scope": scope}
    return {"typ": "Refresh", "scope": scope, "exp": now + realm.session_idle}


def _half_hash(token: str) -> str:
    """Return ``at_hash`` (OpenID Connect Core 3.1.3.6): the left half of the SHA-256, base64url."""
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode("ascii")).digest()[:16]).rstrip(b"=").decode()
