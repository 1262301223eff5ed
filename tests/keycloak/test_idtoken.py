"""The ID token at the end of a login (OpenID Connect Core 1.0 section 3.1.3.7)."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth2_proxy.gate.model import Reason, Refusal
from mcp_oauth2_proxy.keycloak.idtoken import validate_id_token
from mcp_oauth2_proxy.keycloak.interfaces import KeycloakRefused, KeycloakUnavailable
from mcp_oauth2_proxy.keycloak.keyring import MIN_INTERVAL
from tests.keycloak.test_realm import RealmCase
from tests.support.keys import (
    CLIENT_ID,
    ISSUER,
    NOW,
    RESOURCE,
    access_claims,
    ed_key,
    id_claims,
    key_set,
    make_token,
    rsa_key,
)
from tests.support.realm import CERTS

NONCE = "n-0S6_WzA2Mj"
KEYS = key_set(rsa_key(), ed_key())


def validate(token: str, *, now: float = NOW, nonce: str = NONCE) -> Any:
    return validate_id_token(token, keys=KEYS, issuer=ISSUER, client_id=CLIENT_ID, nonce=nonce, now=now)


class Rules(RealmCase):
    """Each rule, with the words the log shows."""

    def refused(self, words: str, *, now: float = NOW, **changes: Any) -> None:
        token = make_token(id_claims(**{"nonce": NONCE, **changes}))
        error = self.assertRaises(KeycloakRefused, validate, token, now=now)
        self.assertEqual(error.error, "invalid_token")
        self.assertIn(words, error.description)
        self.assertNotIn(NONCE, str(error))
        self.assertNotIn(token, str(error))

    def test_good(self) -> None:
        """Keycloak's ID token for this login passes."""
        self.assertEqual(validate(make_token(id_claims(nonce=NONCE)))["sub"], id_claims(nonce="")["sub"])
        validate(make_token(id_claims(nonce=NONCE, aud=[CLIENT_ID, "other"], azp=CLIENT_ID)))
        validate(make_token(id_claims(nonce=NONCE, azp=None, typ=None)))

    def test_issuer(self) -> None:
        """An ID token of another realm does not log anybody in here."""
        self.refused("iss is not", iss="https://id.example/realms/other")
        self.refused("iss is not", iss=None)

    def test_audience(self) -> None:
        """Nor does one for another client."""
        for audience in ("other", ["other"], None, 5, RESOURCE):
            self.refused("aud does not", aud=audience)
        for client in ("other", [CLIENT_ID], 5):
            self.refused("azp is another", azp=client)

    def test_kind(self) -> None:
        """An access, refresh or logout token is no ID token."""
        for kind in ("Bearer", "Refresh", "Logout", "id", 5):
            self.refused("typ is not ID", typ=kind)
        self.assertRaises(KeycloakRefused, validate, make_token(access_claims(aud=CLIENT_ID, nonce=NONCE)))
        refusal = validate(make_token(id_claims(nonce=NONCE), headers={"typ": "logout+jwt"}))
        self.assertEqual(refusal.reason, Reason.HEADER_TYPE)

    def test_nonce(self) -> None:
        """An ID token of another login, replayed into this one, is refused."""
        for nonce in ("other", NONCE.upper(), NONCE + "x", "", None, 5, [NONCE], "\ud800"):
            self.refused("nonce", nonce=nonce)

    def test_time(self) -> None:
        """``exp`` and ``iat`` are there and hold, with the 10 s that Keycloak's clock may differ."""
        validate(make_token(id_claims(nonce=NONCE, exp=NOW)), now=NOW + 9.9)
        self.refused("exp has passed", exp=NOW, now=NOW + 10)
        validate(make_token(id_claims(nonce=NONCE, iat=NOW + 10)))
        self.refused("iat is in the future", iat=NOW + 11)
        for moment in (None, "x", True, float("nan"), float("inf")):
            self.refused("exp has passed", exp=moment)
            self.refused("iat is in the future", iat=moment)

    def test_subject(self) -> None:
        """An ID token that names nobody is refused."""
        for subject in (None, "", 5):
            self.refused("sub is missing", sub=subject)

    def test_signature(self) -> None:
        """One that the realm did not sign is refused, naming the rule."""
        stranger = rsa_key("stranger")
        forged = validate(make_token(id_claims(nonce=NONCE), stranger, headers={"kid": "rsa"}))
        self.assertEqual(forged.reason, Reason.SIGNATURE)
        unknown = validate(make_token(id_claims(nonce=NONCE), stranger))
        self.assertEqual((unknown.reason, unknown.key_id), (Reason.UNKNOWN_KEY, "stranger"))
        self.assertEqual(validate("rubbish").reason, Reason.MALFORMED)

    JSON = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )

    @given(st.dictionaries(st.sampled_from([*id_claims(nonce="")]), JSON))
    def test_arbitrary_claims(self, changes: dict[str, Any]) -> None:
        """Whatever the claims are, the outcome is claims or a refusal."""
        try:
            validate(make_token({**id_claims(nonce=NONCE), **changes}, ed_key()))
        except KeycloakRefused as error:
            self.assertEqual(error.error, "invalid_token")


class ThroughTheRealm(RealmCase):
    """The same with the realm's own keys."""

    def test_good(self) -> None:
        """A login with a known key asks for nothing more."""
        played = self.play()
        token = make_token(id_claims(nonce=NONCE))
        self.assertEqual(
            self.successResultOf(played.realm.validateIdToken(token, nonce=NONCE))["aud"], CLIENT_ID
        )
        self.assertEqual(played.server.count(CERTS), 1)

    def test_new_key(self) -> None:
        """A login right after a key rotation works: the new key is fetched."""
        played = self.play()
        played.publish(rsa_key("new"), rsa_key())
        played.clock.advance(MIN_INTERVAL)
        token = make_token(id_claims(nonce=NONCE), rsa_key("new"))
        self.successResultOf(played.realm.validateIdToken(token, nonce=NONCE))

    def test_refused(self) -> None:
        """A bad ID token names its rule; a bad signature too."""
        played = self.play()
        token = make_token(id_claims(nonce="other"))
        failure = self.failureResultOf(played.realm.validateIdToken(token, nonce=NONCE), KeycloakRefused)
        self.assertIn("nonce", str(failure.value))
        token = make_token(id_claims(nonce=NONCE), rsa_key("never-published"))
        failure = self.failureResultOf(played.realm.validateIdToken(token, nonce=NONCE), KeycloakRefused)
        self.assertEqual(
            str(failure.value), "invalid_token: the ID token is refused: the token's signing key is unknown"
        )

    def test_no_keys(self) -> None:
        """Without keys nothing can be said about a token: unavailable, not refused."""
        played = self.play(prepare=lambda server: setattr(server, "down", True))
        token = make_token(id_claims(nonce=NONCE))
        self.failureResultOf(played.realm.validateIdToken(token, nonce=NONCE), KeycloakUnavailable)
        self.assertNotIsInstance(played.realm.unready(), Refusal)
