"""``private_key_jwt``: who may say that it is the client (RFC 7523 section 3)."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.facade.assertions import (
    MAX_LIFETIME,
    SKEW,
    Assertion,
    check_assertion,
    issuer_of,
    key_id_of,
)
from mcp_oauth2_proxy.facade.clients import PRIVATE_KEY_JWT, Client
from mcp_oauth2_proxy.facade.errors import ClientAuthenticationError, Reason
from mcp_oauth2_proxy.gate.keys import KeySet
from tests.support.keys import ec_key, make_token, rsa_key

CLIENT_ID = "https://app.example/client.json"
CLIENT = Client(CLIENT_ID, ("https://app.example/cb",), PRIVATE_KEY_JWT, ("authorization_code",))
HERE = ("https://mcp.example.com", "https://mcp.example.com/oauth/token")
NOW = 1_800_000_000


def claims(**changes: Any) -> dict[str, Any]:
    good = {"iss": CLIENT_ID, "sub": CLIENT_ID, "aud": HERE[1], "exp": NOW + 60, "iat": NOW, "jti": "one"}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


class Assertions(SynchronousTestCase):
    """One client with an RSA and an EC key."""

    keys = KeySet.from_jwks({"keys": [rsa_key("r").jwk(use=None), ec_key("e").jwk(use=None)]}, of_client=True)

    def check(self, assertion: str, now: float = NOW) -> Assertion:
        return check_assertion(assertion, CLIENT, keys=self.keys, accepted=HERE, now=now)

    def refused(self, assertion: str, now: float = NOW) -> str:
        error = self.assertRaises(ClientAuthenticationError, self.check, assertion, now)
        self.assertEqual(
            (error.code, error.status, error.reason), ("invalid_client", 401, Reason.CLIENT_ASSERTION)
        )
        self.assertNotIn(assertion, f"{error} {error.detail}")
        return f"{error.description} | {error.detail}"

    def test_good(self) -> None:
        """Either key, either audience, alone or in a list; remembered for as long as it is good."""
        for key in (rsa_key("r"), ec_key("e")):
            for audience in (*HERE, [HERE[0]], ["https://other.example", HERE[1]]):
                good = self.check(make_token(claims(aud=audience), key))
                self.assertEqual(good.remember, 60 + SKEW)
        self.check(make_token(claims(iat=None), rsa_key("r"), {"typ": "client-authentication+jwt"}))

    def test_its_name(self) -> None:
        """One ``jti`` is one use whatever else changes; without it the signed text is the name."""
        first, second = (self.check(make_token(claims(exp=NOW + n), rsa_key("r"))) for n in (10, 20))
        self.assertEqual(first.name, second.name)
        names = {self.check(make_token(claims(jti=j), rsa_key("r"))).name for j in ("one", "two", None)}
        self.assertEqual(len(names), 3)
        text = claims(jti=None)
        again = [self.check(make_token(text, ec_key("e"))).name for _ in range(2)]
        self.assertEqual(again[0], again[1], "ECDSA signs one text differently each time")

    def test_bad_claims(self) -> None:
        """Each broken rule is named; what came is in the log's detail."""
        for changes, said in (
            (
                {"iss": "https://evil.example/c"},
                "its iss is not the client | iss is 'https://evil.example/c'",
            ),
            ({"sub": "https://evil.example/c"}, "its sub is not the client"),
            ({"sub": None}, "its sub is not the client"),
            ({"iss": None}, "its iss is not the client"),
            ({"aud": "https://other.example"}, "meant for another server | aud is ['https://other.example']"),
            ({"aud": None}, "meant for another server"),
            ({"aud": HERE[0] + "/"}, "meant for another server"),
            ({"exp": None}, "its exp is missing"),
            ({"exp": "soon"}, "its exp is missing or no time"),
            ({"exp": True}, "its exp is missing or no time"),
            ({"exp": NOW - SKEW}, "it has expired"),
            ({"exp": NOW + MAX_LIFETIME + SKEW + 1}, "good for longer than 3600 s"),
            ({"nbf": NOW + SKEW + 1}, "its nbf is in the future"),
            ({"iat": NOW + SKEW + 1}, "its iat is in the future"),
            ({"iat": "now"}, "its iat is missing or no time"),
        ):
            self.assertIn(said, self.refused(make_token(claims(**changes), rsa_key("r"))), changes)

    def test_bad_signatures(self) -> None:
        """A stranger's key under the right name, an unknown name, a symmetric or no algorithm."""
        good = make_token(claims(), rsa_key("r"))
        self.assertIn(
            "signature is wrong", self.refused(make_token(claims(), rsa_key("stranger"), {"kid": "r"}))
        )
        self.assertIn("key is unknown", self.refused(make_token(claims(), rsa_key("stranger"))))
        head, body, _ = good.split(".")
        self.refused(f"{head}.{body}.")
        none = make_token(claims(), rsa_key("r"), {"alg": "none"})
        self.assertIn("algorithm is not accepted", self.refused(none))
        self.assertIn("algorithm", self.refused(make_token(claims(), rsa_key("r"), {"alg": "HS256"})))
        self.assertIn("another type", self.refused(make_token(claims(), rsa_key("r"), {"typ": "at+jwt"})))

    def test_encryption_keys(self) -> None:
        """A key that says it is for encryption verifies nothing."""
        keys = KeySet.from_jwks({"keys": [rsa_key("r").jwk(use="enc")]}, of_client=True)
        self.assertEqual(len(keys), 0)

    def test_unverified_looks(self) -> None:
        """Whom an assertion claims to come from, and by which key."""
        assertion = make_token(claims(), rsa_key("r"))
        self.assertEqual((issuer_of(assertion), key_id_of(assertion)), (CLIENT_ID, "r"))
        for text in ("", "a.b.c", "....", "x" * 100_000):
            self.assertEqual((issuer_of(text), key_id_of(text)), (None, None))

    @given(
        st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9_-]{0,30}\.[A-Za-z0-9_-]{0,30}\.[A-Za-z0-9_-]{0,30}")
    )
    def test_any_text(self, text: str) -> None:
        """Whatever is sent is refused as a client that is not who it says."""
        issuer_of(text)
        key_id_of(text)
        self.assertRaises(ClientAuthenticationError, self.check, text)
