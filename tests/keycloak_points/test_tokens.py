"""Points about tokens and keys, at the started proxy's gate."""

from __future__ import annotations

import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.model import Auth, Config, Secret, Upstream
from mcp_oauth2_proxy.gate.endings import Endings
from mcp_oauth2_proxy.gate.gate import Gate
from mcp_oauth2_proxy.gate.model import Identity, Reason
from mcp_oauth2_proxy.gate.policy import Policy
from mcp_oauth2_proxy.keycloak.keyring import MIN_INTERVAL
from tests.interop.scene import SocketCase
from tests.service.scene import Scene
from tests.support.keys import (
    ISSUER,
    NOW,
    RESOURCE,
    Signer,
    access_claims,
    ec_key,
    id_claims,
    key_set,
    make_token,
    rsa_key,
)
from tests.support.program import wait_until


class Tokens(SocketCase):
    """One realm; each token differs from a good one in one thing."""

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        good = {"iss": self.scene.issuer, "azp": "mcp-proxy", "iat": now, "exp": now + 600, "auth_time": now}
        return access_claims(**{**good, **changes})

    def status(self, token: str) -> int:
        reply = self.ask("GET", "/mcp", f"Authorization: Bearer {token}")
        if reply.status == 401:
            self.assertIn('error="invalid_token"', reply.header("www-authenticate"))
        return reply.status

    def of(self, key: Signer | None = None, headers: dict[str, Any] | None = None, **changes: Any) -> int:
        """Return the status for a token with these changes."""
        return self.status(make_token(self.claims(**changes), key, headers))

    def test_keycloak_01_id_tokens(self) -> None:
        """An ID token is signed by the same realm and no access token, whatever its audience."""
        now = int(time.time())
        for audience in ("mcp-proxy", f"{self.proxy.base_url}/mcp"):
            claims = id_claims(nonce="n", now=now, iss=self.scene.issuer, aud=audience)
            self.assertEqual(self.status(make_token(claims)), 401)

    def test_keycloak_02_type_claims(self) -> None:
        """``Bearer`` where the claim is there; without it the other rules hold."""
        for kind in ("Refresh", "Offline", "Logout", "ID", "DPoP", "bearer", "", 7):
            self.assertEqual(self.of(typ=kind), 401, kind)
        for kind in ("Bearer", None):
            self.assertEqual(self.of(typ=kind), 200, kind)

    def test_keycloak_03_issuers(self) -> None:
        """Exactly this realm: no other on the same host, no slash more."""
        for issuer in (self.scene.issuer + "/", self.scene.issuer + "2", self.scene.issuer.upper(), None):
            self.assertEqual(self.of(iss=issuer), 401, issuer)

    def test_keycloak_04_other_clients(self) -> None:
        """``aud`` names the resource, or ``azp`` is the proxy's own client."""
        self.assertEqual(self.of(azp="other", aud="account"), 401)
        self.assertEqual(self.of(azp=None, aud=None), 401)
        self.assertEqual(self.of(azp="other", aud=["account", f"{self.proxy.base_url}/mcp"]), 200)
        self.assertEqual(self.of(azp="mcp-proxy", aud="account"), 200)

    def test_keycloak_05_header_types(self) -> None:
        """Those of an access token, or none."""
        for kind in ("JWT", "at+jwt", "application/at+jwt", "AT+JWT", None):
            self.assertEqual(self.of(headers={"typ": kind}), 200, kind)
        for kind in ("logout+jwt", "dpop+jwt", "JOSE", 1):
            self.assertEqual(self.of(headers={"typ": kind}), 401, kind)

    def test_keycloak_06_algorithms(self) -> None:
        """Asymmetric ones that fit the key."""
        for algorithm in ("none", "None", "HS256", "HS512", "ES256", "RS1", ""):
            self.assertEqual(self.of(headers={"alg": algorithm}), 401, algorithm)
        self.assertEqual(self.of(), 200)

    def test_keycloak_07_encryption_keys(self) -> None:
        """The realm publishes a key for encryption; it verifies nothing."""
        self.assertEqual(self.of(rsa_key("enc")), 401)

    def test_keycloak_12_absent_claims(self) -> None:
        """No subject, no roles: nothing falls over."""
        self.assertEqual(self.of(sub=None, realm_access=None, scope=None, aud=None, sid=None, jti=None), 200)
        self.assertEqual(self.of(sub=7, realm_access=[], scope=["x"], aud=[1, None], azp="mcp-proxy"), 200)

    def test_keycloak_13_bound_tokens(self) -> None:
        """A token that is bound to a key is no Bearer token."""
        self.assertEqual(self.of(cnf={"jkt": "x"}), 401)


class Keys(SocketCase):
    """Keys that come and go."""

    def setUp(self) -> None:
        self.scene = Scene()
        self.addCleanup(self.scene.stop)

    def start(self, **options: Any) -> None:
        self.proxy = self.scene.start(**options)
        self.addCleanup(self.proxy.stop)

    def status(self, key: Signer) -> int:
        now = int(time.time())
        claims = access_claims(iss=self.scene.issuer, azp="mcp-proxy", iat=now, exp=now + 600)
        return self.ask("GET", "/mcp", f"Authorization: Bearer {make_token(claims, key)}").status

    def test_keycloak_08_rotation(self) -> None:
        """A new key is fetched when it is met; the passive one still verifies."""
        self.start()
        self.assertEqual(self.status(rsa_key()), 200)
        self.scene.keys = [ec_key("new"), rsa_key()]
        self.assertEqual([self.status(ec_key("new")), self.status(rsa_key())], [200, 200])
        self.assertEqual(self.scene.key_fetches, 2)

    def test_keycloak_09_a_flood_of_unknown_keys(self) -> None:
        """It costs the realm one fetch every ten seconds, however many there are."""
        self.start()
        begun = time.monotonic()
        for number in range(30):
            self.assertEqual(self.status(ec_key(f"made-up-{number}")), 401)
        lasted = time.monotonic() - begun
        self.assertIn(self.scene.key_fetches, range(2, 3 + int(lasted / MIN_INTERVAL)))

    def test_keycloak_10_an_outage(self) -> None:
        """The last good keys stay; with none at all it is 503, since nobody knows whether a token is good."""
        self.start()
        self.scene.is_down = True
        self.assertEqual((self.status(rsa_key()), self.status(ec_key("unknown"))), (200, 401))
        self.start(wait=False)
        self.proxy.wait_until_alive()
        self.assertEqual(self.status(rsa_key()), 503)
        self.scene.is_down = False
        self.proxy.wait_until_ready()
        wait_until(lambda: self.status(rsa_key()) == 200, "tokens are judged", 20)


class Times(SynchronousTestCase):
    """Boundaries, by a controlled clock."""

    def judge(self, now: float, **changes: Any) -> Reason | None:
        auth = Auth(
            base_url="https://mcp.example",
            issuer_url=ISSUER,
            client_id="mcp-proxy",
            client_secret=Secret("s"),
        )
        gate = Gate(
            Policy.from_config(Config(upstream=Upstream(url="http://u"), auth=auth)), Endings(remember=86400)
        )
        header = b"Bearer " + make_token(access_claims(**changes)).encode()
        verdict = gate.check([header], resource=RESOURCE, keys=key_set(rsa_key()), now=now)
        return None if isinstance(verdict, Identity) else verdict.reason

    def test_keycloak_11_times(self) -> None:
        """``exp`` is exact and required; ``nbf`` and ``iat`` have ten seconds."""
        for moment, changes, expected in (
            (NOW + 299.9, {}, None),
            (NOW + 300, {}, Reason.EXPIRED),
            (NOW, {"exp": None}, Reason.NO_EXPIRY),
            (NOW, {"exp": "soon"}, Reason.NO_EXPIRY),
            (NOW, {"nbf": NOW + 10}, None),
            (NOW, {"nbf": NOW + 11}, Reason.NOT_YET_VALID),
            (NOW, {"iat": NOW + 10}, None),
            (NOW, {"iat": NOW + 11}, Reason.NOT_YET_VALID),
        ):
            self.assertEqual(self.judge(moment, **changes), expected, (moment, changes))
