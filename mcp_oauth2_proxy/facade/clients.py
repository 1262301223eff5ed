"""Clients: what the facade knows about one, and how a ``client_id`` carries it.

A ``client_id`` from dynamic registration is the sealed registration itself, so it survives restarts,
is the same on every replica and costs no memory. A ``client_secret`` is a MAC of the ``client_id``.
Other clients are known beforehand (``auth.clients``) or by their metadata document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from mcp_oauth2_proxy.config.redirect_uris import RedirectUri
from mcp_oauth2_proxy.facade.errors import OAuthError, Reason, SealError
from mcp_oauth2_proxy.facade.redirects import parse_redirect_uri
from mcp_oauth2_proxy.facade.sealing import Purpose, Sealer, digest

#: RFC 7591 section 2: how a client authenticates at the token endpoint.
NONE = "none"
POST = "client_secret_post"
BASIC = "client_secret_basic"
#: RFC 7523: a client that proves itself by a key, which its metadata document publishes.
PRIVATE_KEY_JWT = "private_key_jwt"
#: What a client can register by itself.
AUTH_METHODS = (NONE, POST, BASIC)

CODE_GRANT = "authorization_code"
REFRESH_GRANT = "refresh_token"
GRANTS = (CODE_GRANT, REFRESH_GRANT)


@frozen
class ClientKeys:
    """Where a client's public keys are: in its metadata, or at a URL (RFC 7591 section 2)."""

    jwks: Mapping[str, Any] | None
    uri: str | None


@frozen
class Client:
    """A client (RFC 7591 section 2); ``client_id`` stays out of a ``repr``.

    ``also`` are further methods of authentication that it offers, ``publisher`` is the host that its
    metadata document came from, and ``by_operator`` says that it is one of ``auth.clients``.
    """

    client_id: str = field(repr=False)
    redirect_uris: tuple[str, ...]
    auth_method: str
    grants: tuple[str, ...]
    name: str | None = None
    scope: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    keys: ClientKeys | None = None
    publisher: str | None = None
    by_operator: bool = False

    @property
    def digest(self) -> str:
        """A short name for the client, for bindings and logs, that does not tell the ``client_id``."""
        return digest("client", self.client_id)[:22]

    @property
    def is_public(self) -> bool:
        """Whether the client needs no secret (RFC 6749 section 2.1)."""
        return NONE in (self.auth_method, *self.also)

    @property
    def signs(self) -> bool:
        """Whether the client can prove itself by ``private_key_jwt``."""
        return PRIVATE_KEY_JWT in (self.auth_method, *self.also)

    def match(self, requested: str | None) -> RedirectUri:
        """Return the proven redirect URI of an authorization request, as it was requested.

        It may be left out where exactly one is registered (RFC 6749 section 3.1.2.3). Raises
        ``invalid_request``; the answer must then not be a redirect.
        """
        if requested is None:
            if len(self.redirect_uris) == 1:
                return parse_redirect_uri(self.redirect_uris[0])
            raise OAuthError(
                "invalid_request", 400, "redirect_uri is missing", reason=Reason.REDIRECT_MISMATCH
            )
        try:
            uri = parse_redirect_uri(requested)
        except OAuthError as error:
            raise OAuthError("invalid_request", 400, error.description, reason=error.reason) from None
        if any(uri.answers_for(parse_redirect_uri(registered)) for registered in self.redirect_uris):
            return uri
        raise OAuthError(
            "invalid_request",
            400,
            "redirect_uri is not one that this client has registered",
            reason=Reason.REDIRECT_MISMATCH,
            detail=f"asked for {uri.target}, registered for "
            + ", ".join(parse_redirect_uri(one).target for one in self.redirect_uris),
        )

    def to_record(self) -> dict[str, Any]:
        """Return what is sealed into the ``client_id``."""
        return {
            "r": list(self.redirect_uris),
            "m": self.auth_method,
            "g": list(self.grants),
            "n": self.name,
            "s": list(self.scope),
        }


def issue_client_id(record: dict[str, Any], sealer: Sealer) -> str:
    """Return the ``client_id`` that carries a registration."""
    return sealer.seal(Purpose.CLIENT, record)


def open_client_id(client_id: str, sealer: Sealer, ttl: float) -> Client:
    """Return the client that ``client_id`` carries; ``ttl`` is ``clientTtl`` in seconds, 0 for ever.

    Raises :exc:`SealError`, with ``expired`` set for one of ours that is too old.
    """
    record = sealer.open(Purpose.CLIENT, client_id, ttl)
    try:
        return Client(
            client_id=client_id,
            redirect_uris=tuple(record["r"]),
            auth_method=record["m"],
            grants=tuple(record["g"]),
            name=record["n"],
            scope=tuple(record["s"]),
        )
    except (KeyError, TypeError):
        raise SealError("the registration is of another version") from None


def client_secret(client_id: str, sealer: Sealer) -> str:
    """Return the secret of ``client_id``: 43 characters that need no escaping anywhere."""
    return sealer.mac(Purpose.CLIENT_SECRET, client_id)


def secret_matches(client_id: str, secret: str, sealer: Sealer) -> bool:
    """Return whether ``secret`` is the client's, under any sealing key; in constant time."""
    return sealer.verify_mac(Purpose.CLIENT_SECRET, client_id, secret)
