"""Which keys of a realm's key set may verify a token."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.gate.keys import MAX_KEYS, KeySet
from tests.support.keys import Signer, ec_key, ed_key, jwks, key_set, rsa_key

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def ids(*entries: Any) -> frozenset[str]:
    return KeySet.from_jwks({"keys": list(entries)}).key_ids


class Accepted(SynchronousTestCase):
    """Keys that a realm signs with, in every algorithm that Keycloak offers."""

    def test_every_asymmetric_family(self) -> None:
        """Tokens verify whatever algorithm the realm or the client is set to."""
        keys: list[tuple[Signer, str]] = [
            *((rsa_key(f"r-{name}", name), name) for name in ("RS256", "RS384", "RS512")),
            *((rsa_key(f"p-{name}", name), name) for name in ("PS256", "PS384", "PS512")),
            (ec_key("e1", "P-256"), "ES256"),
            (ec_key("e2", "P-384"), "ES384"),
            (ec_key("e3", "P-521"), "ES512"),
            (ed_key("d1", "Ed25519"), "EdDSA"),
            (ed_key("d2", "Ed448"), "EdDSA"),
        ]
        found = key_set(*(key for key, _ in keys))
        for key, algorithm in keys:
            entry = found.find(key.kid, algorithm)
            assert entry is not None, key
            self.assertEqual(entry.algorithms, {algorithm})

    def test_key_without_alg_serves_its_whole_type(self) -> None:
        """A realm that leaves ``alg`` out of its key set works: the key's type says what fits."""
        found = KeySet.from_jwks({"keys": [rsa_key().jwk(alg=None), ec_key().jwk(alg=None)]})
        rsa, elliptic = found.find("rsa", "PS384"), found.find("ec", "ES256")
        assert rsa is not None
        assert elliptic is not None
        self.assertEqual(rsa.algorithms, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
        self.assertEqual(elliptic.algorithms, {"ES256"})

    def test_passive_keys_still_verify(self) -> None:
        """Tokens signed before a key rotation stay good while the realm still publishes the old key."""
        self.assertEqual(key_set(rsa_key("new"), rsa_key("old")).key_ids, {"new", "old"})


class LeftOut(SynchronousTestCase):
    """Keys that must not verify a token; the good one beside them stays."""

    def assertLeftOut(self, **changes: Any) -> None:
        self.assertEqual(ids(rsa_key("bad").jwk(**changes), ec_key("good").jwk()), {"good"})

    def test_encryption_key(self) -> None:
        """Keycloak's RSA-OAEP key of use ``enc`` never verifies a token."""
        self.assertLeftOut(use="enc", alg="RSA-OAEP")
        self.assertLeftOut(use="enc")

    def test_key_that_does_not_say_what_it_is_for(self) -> None:
        """A key without ``use`` is left out: Keycloak always says it, and unknown means refused."""
        self.assertLeftOut(use=None)
        self.assertLeftOut(use=["sig"])

    def test_algorithm_of_another_type(self) -> None:
        """A key that names an algorithm its type cannot do is left out, symmetric ones above all."""
        for algorithm in ("HS256", "none", "ES256", "RSA-OAEP", "RS1", 256, ["RS256"]):
            self.assertLeftOut(alg=algorithm)

    def test_symmetric_key(self) -> None:
        """An ``oct`` key in a public document is no secret, so whatever it signs is worth nothing."""
        self.assertEqual(
            ids({"kty": "oct", "k": "c2VjcmV0", "use": "sig", "alg": "HS256", "kid": "o"}), set()
        )

    def test_short_rsa_key(self) -> None:
        """A 1024-bit RSA key can be factored: its tokens are refused (RFC 7518 section 3.3)."""
        self.assertEqual(ids(rsa_key("short", bits=1024).jwk(), rsa_key("long").jwk()), {"long"})

    def test_other_curves(self) -> None:
        """Curves outside the allow-list are left out."""
        self.assertEqual(ids(ec_key("k", "secp256k1").jwk(), ec_key("k2", "secp256k1").jwk(alg=None)), set())
        self.assertEqual(ids(ec_key("p").jwk(crv="P-999"), ed_key("x").jwk(crv="X25519")), set())

    def test_unreadable_key(self) -> None:
        """One broken entry does not take the realm's other keys with it."""
        for broken in ({"n": "!"}, {"n": None}, {"n": 5}, {"e": ""}, {"e": "AA"}, {"n": "AQAB"}, {"kty": {}}):
            self.assertLeftOut(**broken)
        self.assertEqual(ids(None, 5, "key", [], {}, rsa_key().jwk()), {"rsa"})

    def test_point_off_the_curve(self) -> None:
        """An elliptic-curve key whose point is not on the curve is left out."""
        self.assertEqual(ids(ec_key("off").jwk(x="AAAA" * 10 + "AAA")), set())

    def test_private_members_are_not_taken_over(self) -> None:
        """A realm that publishes a private key by mistake gives this proxy no power to sign."""
        found = KeySet.from_jwks({"keys": [rsa_key().jwk(d="AQAB", p="AQAB", q="AQAB")]}).find("rsa", "RS256")
        assert found is not None
        self.assertFalse(hasattr(found.key, "private_numbers"))

    def test_number_of_keys_is_bounded(self) -> None:
        """A key set of thousands costs no more than a hundred."""
        entries = [rsa_key().jwk(kid=f"k{number}") for number in range(MAX_KEYS + 20)]
        self.assertEqual(len(ids(*entries)), MAX_KEYS)

    def test_first_of_two_keys_with_one_id(self) -> None:
        """Of two keys with one id the first stays: a later entry cannot replace a key."""
        found = KeySet.from_jwks({"keys": [rsa_key().jwk(kid="same"), ec_key().jwk(kid="same")]})
        chosen = found.find("same", "ES256")
        assert chosen is not None
        self.assertIn("RS256", chosen.algorithms)

    def test_no_key_set_at_all(self) -> None:
        """A document without a list of keys is an error that says so, not an empty key set."""
        for document in ({}, {"keys": None}, {"keys": {}}, {"error": "not found"}):
            self.assertIn("list named keys", str(self.assertRaises(ValueError, KeySet.from_jwks, document)))


class Lookup(SynchronousTestCase):
    """From a token's header to its key."""

    def test_token_without_kid_needs_a_single_fitting_key(self) -> None:
        """A token that names no key is served only where there is no choice."""
        self.assertIsNotNone(key_set(rsa_key(), ec_key()).find(None, "ES256"))
        self.assertIsNone(key_set(rsa_key("a"), rsa_key("b")).find(None, "RS256"))
        self.assertIsNone(key_set(rsa_key()).find(None, "ES256"))

    def test_key_published_without_kid(self) -> None:
        """A single key without an id serves tokens without one, and only those."""
        found = KeySet.from_jwks(jwks(rsa_key(None)))
        self.assertEqual((len(found), found.key_ids), (1, frozenset()))
        self.assertIsNotNone(found.find(None, "RS256"))
        self.assertIsNone(found.find("rsa", "RS256"))
        self.assertNotIn(None, found)


class AnyDocument(SynchronousTestCase):
    """Whatever arrives as a key set, the proxy lives on."""

    @given(st.dictionaries(st.sampled_from(["keys", "x"]), JSON))
    def test_arbitrary_document(self, document: dict[str, Any]) -> None:
        """An arbitrary JSON object is a key set or a ValueError."""
        try:
            KeySet.from_jwks(document)
        except ValueError:
            self.assertNotIsInstance(document.get("keys"), list)

    @settings(max_examples=200)
    @given(
        st.sampled_from([rsa_key(), ec_key(), ed_key()]),
        st.dictionaries(
            st.sampled_from(["kty", "crv", "n", "e", "x", "y", "alg", "use", "kid"]),
            JSON | st.sampled_from(["RSA", "EC", "OKP", "P-384", "Ed448", "AQAB", "sig"]),
            min_size=1,
            max_size=3,
        ),
    )
    def test_damaged_key(self, key: Signer, damage: dict[str, Any]) -> None:
        """A key with arbitrary members is taken or left out; a good one beside it always stays."""
        found = KeySet.from_jwks({"keys": [key.jwk(**damage), ec_key("good").jwk()]})
        self.assertIn("good", found)
