"""The bench's realm passes for a Keycloak with those who judge tokens."""

from __future__ import annotations

import time

import jwt
from twisted.trial.unittest import SynchronousTestCase

from bench.realm import Realm


class Tokens(SynchronousTestCase):
    """A token of the realm is a valid one, of the size that Keycloak's are."""

    def test_a_token_verifies_with_the_published_key(self) -> None:
        """Anybody who reads the key set accepts the token, today and until the run is over."""
        realm = Realm.create("http://127.0.0.1:1/realms/bench")
        token = realm.token()
        key = jwt.PyJWKSet.from_dict(realm.jwks())[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(
            token, key.key, algorithms=["RS256"], issuer=realm.issuer, options={"verify_aud": False}
        )
        self.assertEqual((claims["typ"], claims["azp"]), ("Bearer", "mcp-proxy"))
        self.assertGreater(claims["exp"], time.time() + 3600)
        self.assertTrue(1000 < len(token) < 2000, len(token))

    def test_no_two_tokens_are_the_same(self) -> None:
        """The row of new tokens never repeats one."""
        realm = Realm.create("http://127.0.0.1:1/realms/bench")
        self.assertNotEqual(realm.token(), realm.token())

    def test_documents_are_where_the_issuer_says(self) -> None:
        """Discovery is under the issuer's path, and names the place of the keys."""
        realm = Realm.create("http://127.0.0.1:1/realms/bench")
        paths = set(realm.documents())
        self.assertIn("/realms/bench/.well-known/openid-configuration", paths)
        self.assertIn(realm.discovery()["jwks_uri"].removeprefix("http://127.0.0.1:1"), paths)
