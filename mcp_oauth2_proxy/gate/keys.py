"""The realm's signing keys, as RFC 7517 publishes them and as strictly as they are used here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jwt
from attrs import field, frozen

#: The signature algorithms a token may use. Symmetric ones and ``none`` are not among them: a client
#: could make such a token itself.
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
#: Most keys taken from one key set; a realm has a handful, passive ones included.
MAX_KEYS = 100
#: Smallest RSA modulus in bits (RFC 7518 section 3.3).
MIN_RSA_BITS = 2048

_CURVE_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})


@frozen
class SigningKey:
    """One public key and the algorithms that fit it."""

    key_id: str | None
    algorithms: frozenset[str]
    key: Any = field(repr=False)


@frozen
class KeySet:
    """The keys in force. Looked up by ``kid``; a token without one is served only where one key fits."""

    _by_id: Mapping[str, SigningKey] = MappingProxyType({})
    _all: tuple[SigningKey, ...] = ()

    @classmethod
    def from_jwks(cls, document: Mapping[str, Any], *, of_client: bool = False) -> KeySet:
        """Return the signing keys of a JWK set, leaving out what must not verify a token.

        Left out are encryption keys (Keycloak publishes an RSA-OAEP key of use ``enc``), keys that
        don't say they are for signatures, symmetric keys, short RSA keys, and whatever cannot be
        read: one odd key must not take the others with it. Keys ``of_client``, published for
        signatures alone, need not say their use (RFC 7517 section 4.2 makes it optional).

        :raises ValueError: where the document is not a JWK set at all.
        """
        listed = document.get("keys")
        if not isinstance(listed, list):
            raise ValueError("a JWK set has a list named keys")  # noqa: TRY004 (the document is wrong, not the call)
        keys = [key for entry in listed[:MAX_KEYS] if (key := _signing_key(entry, of_client)) is not None]
        by_id: dict[str, SigningKey] = {}
        for key in keys:
            if key.key_id is not None:
                by_id.setdefault(key.key_id, key)
        return cls(MappingProxyType(by_id), tuple(keys))

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of all keys."""
        return frozenset(self._by_id)

    def __contains__(self, key_id: object) -> bool:
        return key_id in self._by_id

    def __len__(self) -> int:
        return len(self._all)

    def find(self, key_id: str | None, algorithm: str) -> SigningKey | None:
        """Return the key for a token's header, or ``None`` where no key, or no single key, fits."""
        if key_id is not None:
            return self._by_id.get(key_id)
        fitting = [key for key in self._all if algorithm in key.algorithms]
        return fitting[0] if len(fitting) == 1 else None


def _signing_key(entry: object, of_client: bool) -> SigningKey | None:
    if not isinstance(entry, dict) or entry.get("use", "sig" if of_client else None) != "sig":
        return None
    algorithms = _fitting_algorithms(entry)
    if not algorithms:
        return None
    # Only the public half is taken, whatever was published by mistake.
    public = {name: entry[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in entry}
    try:
        key = jwt.PyJWK(public, algorithm=min(algorithms)).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if entry["kty"] == "RSA" and key.key_size < MIN_RSA_BITS:
        return None
    key_id = entry.get("kid")
    return SigningKey(key_id if isinstance(key_id, str) else None, algorithms, key)


def _fitting_algorithms(entry: Mapping[str, Any]) -> frozenset[str]:
    """Return the algorithms for a key: what its type allows, narrowed to its ``alg`` where it names one."""
    kind, curve, named = entry.get("kty"), entry.get("crv"), entry.get("alg")
    if kind == "RSA":
        possible = _RSA_ALGORITHMS
    elif kind == "EC" and isinstance(curve, str) and curve in _CURVE_ALGORITHMS:
        possible = frozenset({_CURVE_ALGORITHMS[curve]})
    elif kind == "OKP" and curve in ("Ed25519", "Ed448"):
        possible = frozenset({"EdDSA"})
    else:
        return frozenset()
    if named is None:
        return possible
    return possible & {named} if isinstance(named, str) else frozenset()
