"""A signed token's parts (RFC 7515 section 3.1), each read once, and the claims only after the signature.

The signature itself is the library's work. Its own ``decode`` reads the header twice and the claims
before the signature: four times the work for a new token, and a forged one makes it do most of it.
"""

from __future__ import annotations

import json
from binascii import a2b_base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jwt
from attrs import frozen

from mcp_oauth2_proxy.gate.keys import ALGORITHMS

#: Longest header in characters. Keycloak's has about 120: algorithm, type and key id.
MAX_HEADER = 1024

_ALGORITHMS = {name: jwt.get_algorithm_by_name(name) for name in ALGORITHMS}
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
#: By the length of the text modulo 4; a remainder of 1 encodes nothing.
_PADDING = {0: b"", 2: b"==", 3: b"="}


@frozen
class Parts:
    """The three parts of a compact JWS, still encoded."""

    header: str
    payload: str
    signature: str


def split(token: str) -> Parts:
    """Return the parts of ``token``; ``ValueError`` where it is no compact JWS."""
    header, payload, signature = token.split(".")
    return Parts(header, payload, signature)


@lru_cache(maxsize=64)
def header(encoded: str) -> Mapping[str, Any]:
    """Return the JOSE header; ``ValueError`` or ``RecursionError`` where it is none.

    All tokens that one key signs have the same, so the last few are remembered.
    """
    if len(encoded) > MAX_HEADER:
        raise ValueError(f"a header of {len(encoded)} characters, at most {MAX_HEADER}")
    return _object(encoded)


def is_signed(parts: Parts, algorithm: str, key: Any) -> bool:
    """Return whether ``key`` made the signature; ``algorithm`` is one of those that fit the key.

    :raises ValueError: where the signature is not encoded as one.
    """
    signed = f"{parts.header}.{parts.payload}".encode("ascii")
    return _ALGORITHMS[algorithm].verify(signed, key, decoded(parts.signature))


def claims(encoded: str) -> dict[str, Any]:
    """Return the claims set; ``ValueError`` or ``RecursionError`` where it is none."""
    return _object(encoded)


def decoded(text: str) -> bytes:
    """Return the bytes of unpadded base64url text (RFC 7515 section 2); ``ValueError`` for other text."""
    data = text.encode("ascii")
    if b"+" in data or b"/" in data or b"=" in data or len(data) % 4 not in _PADDING:
        raise ValueError("not base64url")
    return a2b_base64(data.translate(_FROM_URL_SAFE) + _PADDING[len(data) % 4], strict_mode=True)


def _object(encoded: str) -> dict[str, Any]:
    value = json.loads(decoded(encoded))
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 (the text is wrong, not the call)
    return value
