"""Reading a token's parts: as the library reads them, each once, and never more than was signed."""

from __future__ import annotations

import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.utils import base64url_decode, base64url_encode
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.gate import jws

KEYS: dict[str, Any] = {
    "RS": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
KEYS["PS"] = KEYS["RS"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3),
)


def key_for(algorithm: str) -> Any:
    """Return a private key that fits."""
    return KEYS.get(algorithm) or KEYS[algorithm[:2]]


class Tokens(SynchronousTestCase):
    """Whole tokens."""

    @settings(max_examples=60, deadline=None)
    @given(
        algorithm=st.sampled_from(sorted(jws.ALGORITHMS)),
        claims=st.dictionaries(st.text(max_size=10), JSON, max_size=5),
    )
    def test_as_the_library(self, algorithm: str, claims: dict[str, Any]) -> None:
        """What the library signs is read as the library reads it, whatever the algorithm."""
        key = key_for(algorithm)
        # encode() of the JWS layer: the JWT layer has opinions on claims like ``exp``.
        token = jwt.PyJWS().encode(
            json.dumps(claims).encode(), key, algorithm=algorithm, headers={"kid": "k"}
        )
        parts = jws.split(token)
        self.assertEqual(jws.header(parts.header), jwt.get_unverified_header(token))
        self.assertTrue(jws.is_signed(parts, algorithm, key.public_key()))
        self.assertEqual(jws.claims(parts.payload), claims)

    def test_every_changed_character(self) -> None:
        """A signature holds for these very characters and for no others."""
        token = jwt.encode({"sub": "ada"}, KEYS["EdDSA"], algorithm="EdDSA")
        key = KEYS["EdDSA"].public_key()
        signed, _, signature = token.rpartition(".")
        for at, character in enumerate(signed):
            changed = signed[:at] + ("A" if character != "A" else "B") + signed[at + 1 :] + "." + signature
            with self.subTest(at=at):
                try:
                    accepted = jws.is_signed(jws.split(changed), "EdDSA", key)
                except ValueError:
                    accepted = False
                self.assertFalse(accepted)

    def test_no_compact_token(self) -> None:
        """Two parts, four parts or five (an encrypted token) are no signed token."""
        for token in ("", "a", "a.b", "a.b.c.d", "a.b.c.d.e"):
            self.assertRaises(ValueError, jws.split, token)

    def test_headers(self) -> None:
        """A header that is no object, or larger than any key's, is refused."""
        for header in (b"[]", b'"x"', b"", b"{", b"\xff\xfe", json.dumps({"kid": "k" * 1024}).encode()):
            self.assertRaises(ValueError, jws.header, base64url_encode(header).decode())


class Encoding(SynchronousTestCase):
    """base64url, strictly."""

    @given(st.binary(max_size=100))
    def test_there_and_back(self, data: bytes) -> None:
        """Every byte string survives."""
        self.assertEqual(jws.decoded(base64url_encode(data).decode()), data)

    @given(st.text(alphabet="AZaz09-_+/=.~ \n\u00e9", max_size=12))
    def test_other_text(self, text: str) -> None:
        """What is read is read as the library does; padding, the other alphabet and blanks are refused."""
        try:
            data = jws.decoded(text)
        except ValueError:
            return
        self.assertFalse(set(text) & set("+/=.~ \n\u00e9"))
        self.assertEqual(data, base64url_decode(text))
