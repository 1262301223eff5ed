"""Logout tokens (OpenID Connect Back-Channel Logout 1.0 section 2.6): which end a session."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.gate.endings import Ending
from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.gate.model import Reason, Refusal
from mcp_oauth2_proxy.gate.policy import Policy
from mcp_oauth2_proxy.gate.rules import judge
from mcp_oauth2_proxy.keycloak.idtoken import validate_id_token
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakRefused, LogoutToken
from mcp_oauth2_proxy.keycloak.logouttoken import EVENT, MAX_LIFETIME, validate_logout_token
from tests.keycloak.test_realm import RealmCase
from tests.support.keys import (
    CLIENT_ID,
    ISSUER,
    NOW,
    Signer,
    access_claims,
    ec_key,
    id_claims,
    key_set,
    logout_claims,
    make_token,
    rsa_key,
)
from tests.support.realm import CERTS

HEADERS = {"typ": "logout+jwt"}
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


class Rules(SynchronousTestCase):
    """The pure part."""

    def validate(self, token: str, *, keys: KeySet | None = None, now: float = NOW) -> LogoutToken | Refusal:
        keys = key_set(rsa_key(), ec_key()) if keys is None else keys
        return validate_logout_token(token, keys=keys, issuer=ISSUER, client_id=CLIENT_ID, now=now)

    def good(
        self, key: Signer | None = None, headers: dict[str, Any] = HEADERS, **changes: Any
    ) -> LogoutToken:
        said = self.validate(make_token(logout_claims(**changes), key, headers))
        assert isinstance(said, LogoutToken), said
        return said

    def refused(self, rule: str, now: float = NOW, **changes: Any) -> None:
        with self.assertRaises(KeycloakRefused) as caught:
            self.validate(make_token(logout_claims(**changes), headers=HEADERS), now=now)
        self.assertIn(rule, caught.exception.description)

    def test_good(self) -> None:
        """What it ends, until when tokens were issued, and how long its use is remembered."""
        said = self.good()
        self.assertEqual(said.ending, Ending(session="f2a7", subject=access_claims()["sub"], at=NOW))
        self.assertEqual((said.token_id, said.expires_at), ("logout-1", NOW + 120))

    def test_any_signature_of_the_realm(self) -> None:
        """RSA or elliptic curve; explicit type or not; Keycloak's typ claim or none; aud as text or list."""
        self.good(ec_key())
        for headers in ({"typ": "JWT"}, {"typ": None}, {"typ": "application/logout+jwt"}):
            self.good(headers=headers)
        self.good(typ=None)
        self.good(aud=[CLIENT_ID, "another"])

    def test_session_or_subject(self) -> None:
        """One of them is enough, and one has to be there."""
        self.assertIsNone(self.good(sid=None).ending.session)
        self.assertIsNone(self.good(sub=None).ending.subject)
        self.refused("sid and sub are missing", sid=None, sub=None)
        for odd in (5, "", [], {}, "x" * 257, "a\nb"):
            self.refused("sid is no name", sid=odd)
            self.refused("sub is no name", sub=odd)

    def test_offline_sessions(self) -> None:
        """Keycloak says by an event of its own that offline access ends too."""
        self.assertFalse(self.good().ending.offline)
        self.assertTrue(self.good(events={EVENT: {}, "revoke_offline_access": True}).ending.offline)
        self.assertFalse(self.good(events={EVENT: {}, "revoke_offline_access": "no"}).ending.offline)

    def test_for_whom(self) -> None:
        """Another realm's token and another client's end nothing."""
        for issuer in (ISSUER + "/", ISSUER.upper(), "https://id.example/realms/other", None, [ISSUER]):
            self.refused("iss", iss=issuer)
        for audience in ("other-client", [], None, 5, [5], CLIENT_ID + " "):
            self.refused("aud", aud=audience)

    def test_times(self) -> None:
        """Expired, from the future, or good for so long that nobody could remember its use."""
        self.refused("exp has passed", now=NOW + 131)
        self.refused("iat is in the future", now=NOW - 11)
        self.refused("exp is too far off", exp=NOW + MAX_LIFETIME + 1)
        for odd in (None, "soon", True, float("nan"), float("inf"), 1e300, []):
            self.refused("exp", exp=odd)
            self.refused("iat", iat=odd)

    def test_once(self) -> None:
        """Without a usable jti nobody could tell that it comes again."""
        for odd in (None, "", 5, ["a"], "x" * 257):
            self.refused("jti", jti=odd)

    def test_the_event(self) -> None:
        """The events claim has the logout event, with an object."""
        for odd in (
            None,
            {},
            [],
            EVENT,
            [EVENT],
            {EVENT: None},
            {EVENT: []},
            {EVENT: "{}"},
            {EVENT + "/": {}},
        ):
            self.refused("events", events=odd)

    def test_nonce(self) -> None:
        """A token with a nonce is none, whatever the nonce is: an ID token must not pass."""
        for nonce in ("n", "", 0):
            self.refused("nonce", nonce=nonce)
        claims = {**logout_claims(), "nonce": None}
        with self.assertRaises(KeycloakRefused):
            self.validate(make_token(claims, headers=HEADERS))

    def test_other_tokens_of_the_realm(self) -> None:
        """An ID token and an access token log nobody out."""
        for claims in (id_claims(nonce="n"), id_claims(nonce=None), access_claims(aud=CLIENT_ID)):
            with self.assertRaises(KeycloakRefused):
                self.validate(make_token(claims))
        self.refused("typ", typ="ID")
        self.refused("typ", typ="Bearer")

    def test_a_logout_token_is_nothing_else(self) -> None:
        """It is no access token and no ID token, under its own type or disguised."""
        policy = Policy(ISSUER, CLIENT_ID, "https://mcp.example")
        for headers in (HEADERS, {"typ": "JWT"}):
            token = make_token(logout_claims(azp=CLIENT_ID), headers=headers)
            verdict = judge(token, keys=key_set(rsa_key()), policy=policy, now=NOW)
            assert isinstance(verdict, Refusal), verdict
            self.assertIn(verdict.reason, (Reason.HEADER_TYPE, Reason.TYPE))
        with self.assertRaises(KeycloakRefused):
            validate_id_token(
                make_token(logout_claims()),
                keys=key_set(rsa_key()),
                issuer=ISSUER,
                client_id=CLIENT_ID,
                nonce="n",
                now=NOW,
            )

    def test_forged(self) -> None:
        """Another key of the same name, an unknown one, no signature, a symmetric one, an encryption key."""
        forger = rsa_key("forger")
        enc = KeySet.from_jwks({"keys": [rsa_key().jwk(use="enc", alg="RSA-OAEP")]})
        good = make_token(logout_claims(), headers=HEADERS)
        for token, keys, reason in (
            (make_token(logout_claims(), forger, {**HEADERS, "kid": "rsa"}), None, Reason.SIGNATURE),
            (make_token(logout_claims(), forger, HEADERS), None, Reason.UNKNOWN_KEY),
            (make_token(logout_claims(), headers={**HEADERS, "alg": "none"}), None, Reason.ALGORITHM),
            (make_token(logout_claims(), headers={**HEADERS, "alg": "HS256"}), None, Reason.ALGORITHM),
            (make_token(logout_claims(), headers={"typ": "at+jwt"}), None, Reason.HEADER_TYPE),
            (good, enc, Reason.UNKNOWN_KEY),
            (good[:-4], None, Reason.SIGNATURE),
            ("x" * 20_000, None, Reason.TOO_LARGE),
            ("noise", None, Reason.MALFORMED),
        ):
            verdict = self.validate(token, keys=keys)
            assert isinstance(verdict, Refusal), verdict
            self.assertIn(verdict.reason, (reason, Reason.MALFORMED), token[:20])

    @given(st.dictionaries(st.sampled_from(sorted(logout_claims())), _values, min_size=1, max_size=4))
    def test_anything_a_realm_could_sign(self, changes: dict[str, Any]) -> None:
        """Whatever the claims are, they are judged, and what passes has all that a logout needs."""
        try:
            said = self.validate(make_token({**logout_claims(), **changes}, headers=HEADERS))
        except KeycloakRefused:
            return
        assert isinstance(said, LogoutToken)
        self.assertTrue(said.ending.session or said.ending.subject)
        self.assertTrue(said.token_id and said.expires_at > NOW - 60)


class AtTheRealm(RealmCase):
    """With the realm's own keys."""

    def test_a_new_key(self) -> None:
        """A token that a new key signed is good after one fetch."""
        played = self.play()
        token = make_token(logout_claims(), rsa_key("new"), HEADERS)
        played.publish(rsa_key(), rsa_key("new"))
        said = self.successResultOf(played.realm.validateLogoutToken(token))
        self.assertEqual(said.token_id, "logout-1")

    def test_a_forged_one(self) -> None:
        """It is refused, and asks Keycloak for keys no more often than forged access tokens do."""
        played = self.play()
        before = played.server.count(CERTS)
        for _ in range(5):
            token = make_token(logout_claims(), rsa_key("forger"), HEADERS)
            failure = self.failureResultOf(played.realm.validateLogoutToken(token), KeycloakRefused)
            self.assertIn("signing key", failure.value.description)
        self.assertEqual(played.server.count(CERTS), before + 1)
