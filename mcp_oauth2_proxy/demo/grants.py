"""The token endpoint's rules: client authentication and the three grants, with Keycloak's own answers."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from attrs import frozen

from mcp_oauth2_proxy.demo.keys import RealmKeys
from mcp_oauth2_proxy.demo.realm import SILENT_SCOPES, Client, RealmDefinition
from mcp_oauth2_proxy.demo.sessions import ClientSession, Code, Memory, Randomness, Session
from mcp_oauth2_proxy.demo.tokens import issue


@frozen
class TokenError(Exception):
    """An OAuth error answer (RFC 6749 section 5.2)."""

    status: int
    error: str
    description: str

    def body(self) -> dict[str, str]:
        """Return the JSON document of the answer."""
        return {"error": self.error, "error_description": self.description}


def _refused(description: str) -> TokenError:
    return TokenError(400, "invalid_grant", description)


def _basic(authorization: str | None) -> tuple[str, str] | None:
    """Return client id and secret of a Basic header, form-decoded (RFC 6749 section 2.3.1)."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    name, _, secret = decoded.partition(":")
    return unquote_plus(name), unquote_plus(secret)


class Grants:
    """One realm's token endpoint without HTTP: parameters in, the JSON answer or :exc:`TokenError` out."""

    def __init__(
        self, realm: RealmDefinition, keys: RealmKeys, memory: Memory, randomness: Randomness
    ) -> None:
        self._realm = realm
        self._keys = keys
        self._memory = memory
        self._randomness = randomness

    def authenticate(self, form: Mapping[str, str], authorization: str | None) -> Client:
        """Return the client that proves itself, by Basic or in the body; the body wins, as in Keycloak."""
        basic = _basic(authorization)
        client_id, secret = basic or (form.get("client_id", ""), "")
        secret = form.get("client_secret", secret)
        client = self._realm.client(client_id)
        message = "Invalid client or Invalid client credentials"
        if client is None:
            raise TokenError(401, "invalid_client", message)
        if not hmac.compare_digest(client.secret.encode(), secret.encode()):
            raise TokenError(401, "unauthorized_client", message)
        return client

    def token(
        self,
        form: Mapping[str, str],
        duplicated: bool,
        authorization: str | None,
        *,
        issuer: str,
        now: float,
    ) -> dict[str, Any]:
        """Answer a token request; raises :exc:`TokenError`. ``duplicated``: a parameter came twice."""
        grants = {
            "authorization_code": self._by_code,
            "refresh_token": self._by_refresh,
            "password": self._by_password,
        }
        grant_type = form.get("grant_type")
        if grant_type is None:
            raise TokenError(400, "invalid_request", "Missing form parameter: grant_type")
        if grant_type not in grants:
            raise TokenError(400, "unsupported_grant_type", "Unsupported grant_type")
        client = self.authenticate(form, authorization)
        if duplicated:
            raise TokenError(400, "invalid_request", "duplicated parameter")
        return grants[grant_type](form, client, issuer, now)

    def _by_code(self, form: Mapping[str, str], client: Client, issuer: str, now: float) -> dict[str, Any]:
        value = form.get("code")
        if value is None:
            raise TokenError(400, "invalid_request", "Missing parameter: code")
        again = self._memory.redeemed.get(value)
        if again is not None:
            # RFC 6749 section 4.1.2: a second use takes back what the first one gave.
            again.session.clients.pop(again.request.client_id, None)
        # Whoever presents a code uses it up, so that a wrong guess cannot be followed by another.
        code = self._memory.codes.pop(value, None)
        if code is None or code.expires_at <= now:
            raise _refused("Code not valid")
        self._check_code(code, form, client)
        self._memory.redeemed[value] = code
        code.session.clients.setdefault(client.client_id, ClientSession())
        return self._issue(
            client,
            code.session,
            self._realm.granted(code.request.scope),
            grant_type="authorization_code",
            issuer=issuer,
            now=now,
            nonce=code.request.nonce,
            fresh=code.fresh,
        )

    def _check_code(self, code: Code, form: Mapping[str, str], client: Client) -> None:
        if code.request.client_id != client.client_id:
            raise _refused("Auth error: Found different client_id in clientSession")
        if form.get("redirect_uri") != code.request.redirect_uri:
            raise _refused("Incorrect redirect_uri")
        challenge, verifier = code.request.code_challenge, form.get("code_verifier")
        if challenge is None:
            if verifier is not None:
                raise _refused("PKCE code verifier specified but challenge not present in authorization")
            return
        if verifier is None:
            raise _refused("PKCE code verifier not specified")
        if code.request.code_challenge_method == "S256":
            digest = hashlib.sha256(verifier.encode()).digest()
            verifier = base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
        if not hmac.compare_digest(verifier.encode(), challenge.encode()):
            raise _refused("PKCE verification failed: Code mismatch")

    def _by_refresh(self, form: Mapping[str, str], client: Client, issuer: str, now: float) -> dict[str, Any]:
        value = form.get("refresh_token")
        if value is None:
            raise TokenError(400, "invalid_request", "No refresh token")
        claims = self._keys.open(value)
        if claims is None or claims["iss"] != issuer:
            raise _refused("Invalid refresh token")
        if claims["azp"] != client.client_id:
            raise _refused("Invalid refresh token. Token client and authorized client don't match")
        if "exp" in claims and claims["exp"] <= now:
            raise _refused("Token is not active")
        session = self._memory.sessions.get(claims["sid"])
        if session is None:
            raise _refused("Session not active")
        mine = session.clients.get(client.client_id)
        if mine is None:
            raise _refused("Session doesn't have required client")
        scopes = tuple(name for name in claims["scope"].split(" ") if name not in SILENT_SCOPES)
        asked = form.get("scope")
        if asked is not None and not self._realm.scope_is_valid(asked):
            raise TokenError(400, "invalid_scope", f"Invalid scopes: {asked}")
        if self._realm.rotate_refresh_tokens:
            max_reuse = self._realm.refresh_token_max_reuse
            chain = mine.chains[claims["reuse_id"]]
            objection = chain.use(claims["jti"], claims["iat"], max_reuse=max_reuse, now=int(now))
            if objection is not None:
                # Keycloak ends the client's session, so the successor of a stolen token dies too.
                del session.clients[client.client_id]
                raise _refused(objection)
        # Asking for less narrows this access token; the refresh token keeps all that was granted.
        narrowed = tuple(name for name in self._realm.granted(asked) if name in scopes)
        return self._issue(
            client,
            session,
            scopes if asked is None else narrowed,
            held=scopes,
            grant_type="refresh_token",
            reuse_id=claims["reuse_id"],
            issuer=issuer,
            now=now,
        )

    def _by_password(
        self, form: Mapping[str, str], client: Client, issuer: str, now: float
    ) -> dict[str, Any]:
        if not client.direct_grants:
            raise TokenError(400, "unauthorized_client", "Client not allowed for direct access grants")
        scope = form.get("scope")
        if scope is not None and not self._realm.scope_is_valid(scope):
            raise TokenError(400, "invalid_scope", f"Invalid scopes: {scope}")
        user = self._realm.user(form.get("username", ""))
        if user is None or not hmac.compare_digest(user.password.encode(), form.get("password", "").encode()):
            raise _refused("Invalid user credentials")
        session = Session(self._randomness.name(), user, int(now), {client.client_id: ClientSession()})
        self._memory.sessions[session.sid] = session
        scopes = self._realm.granted(scope)
        return self._issue(client, session, scopes, grant_type="password", issuer=issuer, now=now)

    def _issue(
        self,
        client: Client,
        session: Session,
        scopes: tuple[str, ...],
        *,
        grant_type: str,
        issuer: str,
        now: float,
        held: tuple[str, ...] | None = None,
        reuse_id: str | None = None,
        nonce: str | None = None,
        fresh: bool = True,
    ) -> dict[str, Any]:
        return issue(
            self._realm,
            self._keys,
            self._randomness,
            issuer=issuer,
            client=client,
            session=session,
            scopes=scopes,
            held=scopes if held is None else held,
            grant_type=grant_type,
            reuse_id=self._randomness.uuid() if reuse_id is None else reuse_id,
            now=int(now),
            nonce=nonce,
            fresh=fresh,
        )

    def introspect(
        self, form: Mapping[str, str], authorization: str | None, *, issuer: str, now: float
    ) -> dict[str, Any]:
        """Say whether an access or ID token is active (RFC 7662), to a client that its ``aud`` names."""
        try:
            client = self.authenticate(form, authorization)
        except TokenError:
            raise TokenError(401, "invalid_client", "Client authentication failed.") from None
        token = form.get("token")
        if token is None:
            raise TokenError(400, "invalid_request", "Token not provided.")
        claims = self._keys.verify(token)
        if claims is None or claims["iss"] != issuer or claims["exp"] <= now:
            return {"active": False}
        session = self._memory.sessions.get(claims["sid"])
        audience = [claims["aud"]] if isinstance(claims["aud"], str) else claims["aud"]
        if client.client_id not in audience or session is None or claims["azp"] not in session.clients:
            return {"active": False}
        return {
            **claims,
            "client_id": claims["azp"],
            "username": session.user.username,
            "token_type": claims["typ"],
            "active": True,
        }

    def revoke(self, form: Mapping[str, str], authorization: str | None) -> dict[str, str] | None:
        """Revoke a refresh token (RFC 7009): its client's part of the session ends with it.

        Returns the document Keycloak answers with for a token it does not know, else ``None``.
        """
        client = self.authenticate(form, authorization)
        claims = self._keys.open(form.get("token", ""))
        if claims is None or claims["azp"] != client.client_id:
            return {"error": "invalid_token", "error_description": "Invalid token"}
        session = self._memory.sessions.get(claims["sid"])
        if session is not None:
            session.clients.pop(client.client_id, None)
            if not session.clients:
                self._memory.end_session(session)
        return None
