"""Client authentication at the token endpoint: none, a secret (RFC 6749 2.3) or an assertion (RFC 7523).

A failure is 401 ``invalid_client`` and has burned nothing: clients try one method after the other.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from urllib.parse import unquote_plus

from attrs import field, frozen

from mcp_oauth2_proxy.facade.assertions import ASSERTION_TYPE, issuer_of, refused
from mcp_oauth2_proxy.facade.clients import Client
from mcp_oauth2_proxy.facade.errors import (
    ClientAuthenticationError,
    Reason,
    invalid_request,
)
from mcp_oauth2_proxy.facade.parameters import Parameters

#: Bytes of an Authorization header: a client_id of 12 KiB, URL-encoded and in base64.
MAX_BASIC = 32 * 1024


@frozen
class Credentials:
    """What a request says about its client. ``pairs`` are the readings of it, the literal one first.

    SDKs disagree whether id and secret are URL-encoded inside Basic (RFC 6749 section 2.3.1 says yes),
    so both readings are tried. With an ``assertion`` there is no secret.
    """

    pairs: tuple[tuple[str, str], ...] = field(repr=False)
    basic: bool
    assertion: str | None = field(default=None, repr=False)


def read_credentials(authorization: Sequence[bytes], form: Parameters) -> Credentials:
    """Return the credentials of a token request; ``authorization`` are the values of that header.

    Raises ``invalid_request`` for contradictions and ``invalid_client`` for what cannot be read.
    """
    if len(authorization) > 1:
        raise invalid_request("there is more than one Authorization header", Reason.CLIENT_METHODS)
    body_id, body_secret = form.get("client_id"), form.get("client_secret")
    if form.get("client_assertion") or form.get("client_assertion_type"):
        if authorization or body_secret:
            raise invalid_request("the client authenticates in two ways", Reason.CLIENT_METHODS)
        return _read_assertion(form, body_id)
    if not authorization:
        if body_id is None:
            raise _refused("the request names no client", Reason.CLIENT_MISSING, basic=False)
        return Credentials(((body_id, body_secret or ""),), basic=False)
    client_id, secret = _read_basic(authorization[0])
    pairs = ((client_id, secret), (unquote_plus(client_id), unquote_plus(secret)))
    if body_id is not None and body_id not in (pairs[0][0], pairs[1][0]):
        raise invalid_request("the header and the body name two clients", Reason.CLIENT_METHODS)
    if secret and body_secret:
        raise invalid_request("the client authenticates in two ways", Reason.CLIENT_METHODS)
    if body_secret:
        # An empty Basic password beside a secret in the body is a client that hedges: the body counts.
        pairs = ((pairs[0][0], body_secret), (pairs[1][0], body_secret))
    return Credentials(tuple(dict.fromkeys(pairs)), basic=True)


def _read_assertion(form: Parameters, client_id: str | None) -> Credentials:
    assertion = form.get("client_assertion")
    if assertion is None or form.get("client_assertion_type") != ASSERTION_TYPE:
        raise refused(f"client_assertion_type must be {ASSERTION_TYPE}")
    # RFC 7521 section 4.2: client_id may be left out; who it is then is what the assertion has to prove.
    named = client_id or issuer_of(assertion)
    if named is None:
        raise refused("it names no client")
    return Credentials(((named, ""),), basic=False, assertion=assertion)


def _read_basic(value: bytes) -> tuple[str, str]:
    """Return user and password of a Basic header (RFC 7617), in UTF-8."""
    scheme, _, encoded = value.strip().partition(b" ")
    if scheme.lower() != b"basic" or len(value) > MAX_BASIC:
        raise _refused("the Authorization header is not Basic", Reason.CLIENT_METHODS, basic=True)
    encoded = encoded.strip()
    try:
        decoded = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise _refused("the Basic header cannot be read", Reason.CLIENT_METHODS, basic=True) from None
    user, colon, password = decoded.partition(":")
    if not (user and colon) or re.search(r"[\x00-\x1f\x7f]", decoded):
        raise _refused("the Basic header cannot be read", Reason.CLIENT_METHODS, basic=True)
    return user, password


def authenticate(
    client: Client, credentials: Credentials, secret_matches: Callable[[str, str], bool]
) -> Client:
    """Return ``client`` when its credentials, which are no assertion, hold.

    ``secret_matches(client_id, secret)`` compares in constant time. A public client has no secret, and
    an empty one in a Basic header says so (some SDKs send that when no method was agreed).
    """
    secrets = [secret for client_id, secret in credentials.pairs if client_id == client.client_id]
    if client.is_public:
        if not any(secrets):
            return client
        raise _refused(
            "this client is registered without a secret", Reason.CLIENT_SECRET, basic=credentials.basic
        )
    if client.signs:
        raise _refused("this client proves itself by an assertion", Reason.CLIENT_METHODS, basic=False)
    matches = [secret_matches(client.client_id, secret) for secret in secrets]
    if any(matches):
        return client
    description = "the client secret is wrong" if any(secrets) else "the client secret is missing"
    raise _refused(description, Reason.CLIENT_SECRET, basic=credentials.basic)


def _refused(description: str, reason: Reason, *, basic: bool) -> ClientAuthenticationError:
    return ClientAuthenticationError(description, reason=reason, basic=basic)
