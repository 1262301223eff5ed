"""What a realm of the embedded identity provider consists of: clients, users, scopes and lifespans."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen

#: Keycloak's default client scopes that show in a token's ``scope``, in Keycloak's order.
SHOWN_SCOPES = ("profile", "email")
#: Default client scopes that act but do not show.
SILENT_SCOPES = ("roles", "web-origins", "basic", "acr")
#: Optional client scopes, granted where they are asked for.
OPTIONAL_SCOPES = ("address", "phone", "offline_access", "microprofile-jwt", "organization")


@frozen
class Client:
    """A client of the realm; ``redirect_uris`` match as Keycloak's do (a trailing ``*``: prefix match)."""

    client_id: str
    secret: str = field(repr=False)
    redirect_uris: tuple[str, ...] = ()
    standard_flow: bool = True
    direct_grants: bool = False
    #: Keycloak's ``backchannel.logout.url``, with ``backchannel.logout.session.required`` on.
    logout_url: str | None = None
    #: What mappers of type Audience add to the ``aud`` of its access tokens.
    audiences: tuple[str, ...] = ()

    def allows_redirect(self, uri: str) -> bool:
        """Say whether an authorization answer may be sent to ``uri``."""
        return any(
            uri.startswith(pattern[:-1]) if pattern.endswith("*") else uri == pattern
            for pattern in self.redirect_uris
        )


@frozen
class User:
    """A person who can log in."""

    username: str
    password: str = field(repr=False)
    email: str
    given_name: str
    family_name: str


@frozen
class RealmDefinition:
    """A realm; lifespans are seconds, with Keycloak's own defaults."""

    name: str
    clients: tuple[Client, ...]
    users: tuple[User, ...]
    extra_scopes: tuple[str, ...] = ()
    access_token_lifespan: int = 300
    session_idle: int = 1800
    code_lifespan: int = 60
    #: Keycloak's ``revokeRefreshToken``: a refresh token works once.
    rotate_refresh_tokens: bool = True
    #: Keycloak's ``refreshTokenMaxReuse``: how often it works once more.
    refresh_token_max_reuse: int = 0

    def client(self, client_id: str | None) -> Client | None:
        """Return the client of that id."""
        return next((client for client in self.clients if client.client_id == client_id), None)

    def user(self, username: str) -> User | None:
        """Return the user of that name or e-mail address, as Keycloak's form accepts both."""
        return next((user for user in self.users if username in (user.username, user.email)), None)

    def known_scopes(self) -> frozenset[str]:
        """Return every name that a ``scope`` parameter may carry."""
        return frozenset(("openid", *SHOWN_SCOPES, *SILENT_SCOPES, *OPTIONAL_SCOPES, *self.extra_scopes))

    def scope_is_valid(self, scope: str) -> bool:
        """Judge a ``scope`` parameter as Keycloak does: split at single spaces, trailing ones dropped.

        So an empty value, a leading space and a double space are refused like an unknown name.
        """
        names = scope.rstrip(" ").split(" ")
        return all(name in self.known_scopes() for name in names)

    def granted(self, scope: str | None) -> tuple[str, ...]:
        """Return the scopes of a token for a valid ``scope`` parameter: default ones come by themselves."""
        asked = set((scope or "").split())
        optional = (*OPTIONAL_SCOPES, *self.extra_scopes)
        return (
            *(("openid",) if "openid" in asked else ()),
            *SHOWN_SCOPES,
            *(name for name in optional if name in asked),
        )


def parse_pairs(pairs: Iterable[tuple[str, str]]) -> tuple[dict[str, str], bool]:
    """Return the parameters as a mapping, and whether one of them came twice (RFC 6749 section 3.1)."""
    parameters: dict[str, str] = {}
    duplicated = False
    for name, value in pairs:
        duplicated = duplicated or name in parameters
        parameters.setdefault(name, value)
    return parameters, duplicated
