"""The rules for access tokens, each with the reason that the log shows."""

from __future__ import annotations

import json
from typing import Any

import jwt
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.gate.endings import Endings
from mcp_oauth2_proxy.gate.gate import Gate
from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.gate.model import Identity, Reason, Refusal
from mcp_oauth2_proxy.gate.policy import Policy
from mcp_oauth2_proxy.gate.rules import LEEWAY, MAX_TOKEN_BYTES, judge
from tests.support.keys import (
    CLIENT_ID,
    ISSUER,
    NOW,
    RESOURCE,
    Signer,
    access_claims,
    base64url,
    ec_key,
    ed_key,
    id_claims,
    key_set,
    make_token,
    rsa_key,
    sign_raw,
)

POLICY = Policy(issuer=ISSUER, client_id=CLIENT_ID, base_url="https://mcp.example")
KEYS = key_set(rsa_key(), ec_key(), ed_key())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
CLAIM_NAMES = [*access_claims(), "nbf", "cnf", "groups", "email"]


class RulesCase(SynchronousTestCase):
    """Judges tokens as the relay does: header, resource and all."""

    def verdict(
        self,
        token: str,
        *,
        policy: Policy = POLICY,
        keys: KeySet = KEYS,
        now: float = NOW,
        resource: str = RESOURCE,
    ) -> Identity | Refusal:
        return Gate(policy, Endings(remember=86400)).check(
            [b"Bearer " + token.encode()], resource=resource, keys=keys, now=now
        )

    def accepted(self, token: str, **options: Any) -> Identity:
        verdict = self.verdict(token, **options)
        assert isinstance(verdict, Identity), verdict
        return verdict

    def refused(self, reason: Reason, token: str, **options: Any) -> Refusal:
        verdict = self.verdict(token, **options)
        assert isinstance(verdict, Refusal), verdict
        self.assertEqual(verdict.reason, reason, verdict)
        self.assertLess(len(verdict.detail), 1500)
        self.assertNotIn(token, verdict.detail + verdict.description)
        return verdict


class Good(RulesCase):
    """What passes."""

    def test_ordinary_access_token(self) -> None:
        """A Keycloak access token of this proxy's client passes without any mapper in the realm."""
        identity = self.accepted(make_token(access_claims()))
        self.assertEqual(identity.subject, access_claims()["sub"])
        self.assertEqual(identity.client, CLIENT_ID)
        self.assertEqual(identity.scopes, {"openid", "profile", "mcp:read"})
        self.assertEqual(identity.audiences, {"account"})
        self.assertEqual(identity.expires_at, NOW + 300)
        self.assertEqual(identity.key_id, "rsa")
        self.assertEqual(identity.claims["realm_access"], {"roles": ["offline_access"]})
        self.assertNotIn("realm_access", repr(identity))

    def test_every_algorithm(self) -> None:
        """The realm may sign with any asymmetric algorithm that Keycloak has."""
        for key in (
            *(rsa_key(name, name) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
            *(ec_key(name, name) for name in ("P-256", "P-384", "P-521")),
            *(ed_key(name, name) for name in ("Ed25519", "Ed448")),
        ):
            self.accepted(make_token(access_claims(), key), keys=key_set(key))

    def test_header_types(self) -> None:
        """``typ`` may be JWT or RFC 9068's at+jwt in any case, or be left out."""
        for kind in ("JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt", None):
            self.accepted(make_token(access_claims(), headers={"typ": kind}))

    def test_lightweight_token(self) -> None:
        """A lightweight access token without ``sub``, ``aud``, ``scope``, roles and groups passes."""
        bare = {name: access_claims()[name] for name in ("exp", "iat", "jti", "iss", "typ", "azp", "sid")}
        identity = self.accepted(make_token(bare))
        self.assertIsNone(identity.subject)
        self.assertEqual((identity.scopes, identity.audiences), (frozenset(), frozenset()))

    def test_token_without_typ_claim(self) -> None:
        """A ``typ`` claim is judged where it is present; its absence alone refuses nobody."""
        self.accepted(make_token(access_claims(typ=None)))

    def test_claims_of_another_type_are_as_good_as_absent(self) -> None:
        """``sub``, ``scope`` or ``groups`` of an unexpected type crash nothing."""
        identity = self.accepted(
            make_token(access_claims(sub=5, scope=["a"], groups={"a": 1}, realm_access=7))
        )
        self.assertEqual((identity.subject, identity.scopes), (None, frozenset()))

    def test_token_without_kid(self) -> None:
        """A token that names no key passes where exactly one key fits its algorithm."""
        token = make_token(access_claims(), headers={"kid": None})
        self.assertIsNone(self.accepted(token).key_id)
        refusal = self.refused(Reason.UNKNOWN_KEY, token, keys=key_set(rsa_key("a"), rsa_key("b")))
        self.assertIsNone(refusal.key_id)


class Forged(RulesCase):
    """What no realm has signed."""

    def test_not_a_jwt(self) -> None:
        """Random text as a token is refused as malformed."""
        for token in ("abc", "a.b", "a.b.c", "....", "e30.e30.e30", "bnVsbA.e30.", "WzFd.e30.e30"):
            self.refused(Reason.MALFORMED if token != "e30.e30.e30" else Reason.ALGORITHM, token)

    def test_five_part_token(self) -> None:
        """An encrypted token (five parts) is refused: nothing here decrypts."""
        header = base64url(b'{"alg":"RSA-OAEP","enc":"A256GCM"}').decode()
        self.refused(Reason.MALFORMED, f"{header}.e30.e30.e30.e30")

    def test_none_algorithm(self) -> None:
        """An unsigned token is refused, however ``none`` is spelled."""
        for name in ("none", "None", "NONE", ""):
            head = base64url(json.dumps({"alg": name, "kid": "rsa"}).encode()).decode()
            body = base64url(json.dumps(access_claims()).encode()).decode()
            self.refused(Reason.ALGORITHM, f"{head}.{body}.")

    def test_symmetric_algorithms(self) -> None:
        """A token signed with the realm's *public* key as an HMAC secret is refused (key confusion)."""
        public = json.dumps(rsa_key().jwk())
        for name in ("HS256", "HS384", "HS512"):
            token = jwt.encode(access_claims(), public * 2, algorithm=name, headers={"kid": "rsa"})
            self.assertIn(name, self.refused(Reason.ALGORITHM, token).detail)

    def test_algorithm_that_does_not_fit_the_key(self) -> None:
        """A good signature by another algorithm than the key's own is refused."""
        key = rsa_key()
        for other in (Signer(key.kid, "PS256", key.private), Signer(key.kid, "RS512", key.private)):
            refusal = self.refused(Reason.ALGORITHM, make_token(access_claims(), other))
            self.assertIn("RS256", refusal.detail)
        self.refused(Reason.ALGORITHM, make_token(access_claims(), ec_key("ec"), headers={"kid": "rsa"}))

    def test_algorithm_of_another_type(self) -> None:
        """An ``alg`` that is no string is refused."""
        for algorithm in (5, ["RS256"], {"a": 1}, True):
            self.refused(Reason.ALGORITHM, make_token(access_claims(), headers={"alg": algorithm}))

    def test_wrong_signature(self) -> None:
        """A token signed by somebody else under a known key id is refused."""
        stranger = rsa_key("stranger")
        self.refused(Reason.SIGNATURE, make_token(access_claims(), stranger, headers={"kid": "rsa"}))

    def test_changed_payload(self) -> None:
        """Claims changed after signing are refused."""
        head, _, signature = make_token(access_claims()).split(".")
        body = base64url(json.dumps(access_claims(sub="root")).encode()).decode()
        self.refused(Reason.SIGNATURE, f"{head}.{body}.{signature}")

    def test_unknown_key_names_the_key(self) -> None:
        """A token by a key that is not known yet says which: one refetch may bring it."""
        refusal = self.refused(Reason.UNKNOWN_KEY, make_token(access_claims(), rsa_key("tomorrow")))
        self.assertEqual(refusal.key_id, "tomorrow")
        self.assertIn("tomorrow", refusal.detail)

    def test_encryption_key_id(self) -> None:
        """A token that names the realm's encryption key is refused, even when that key signed it."""
        keys = KeySet.from_jwks({"keys": [rsa_key("enc").jwk(use="enc"), ec_key().jwk()]})
        self.refused(Reason.UNKNOWN_KEY, make_token(access_claims(), rsa_key("enc")), keys=keys)

    def test_key_id_of_another_type(self) -> None:
        """A ``kid`` that is no string is refused as malformed."""
        for key_id in (5, ["rsa"], {"a": 1}, True):
            self.refused(Reason.MALFORMED, make_token(access_claims(), headers={"kid": key_id}))

    def test_payload_that_is_no_object(self) -> None:
        """A well-signed payload that is no JSON object is refused as malformed."""
        header = b'{"alg":"RS256","kid":"rsa","typ":"JWT"}'
        for payload in (b"[]", b"null", b"5", b'"text"', b"{", b"\xff\xfe", b"", b"[" * 5000):
            self.refused(Reason.MALFORMED, sign_raw(header, payload, rsa_key()))

    def test_too_large(self) -> None:
        """A token of more than 16 KiB is refused before anything of it is read."""
        token = make_token(access_claims(groups=["g" * 50] * 400))
        self.assertGreater(len(token), MAX_TOKEN_BYTES)
        self.refused(Reason.TOO_LARGE, token)
        refusal = judge(token, keys=KEYS, policy=POLICY, now=NOW)
        assert isinstance(refusal, Refusal)
        self.assertEqual(refusal.reason, Reason.TOO_LARGE)

    def test_large_honest_token(self) -> None:
        """A token with hundreds of roles, about 10 KB, passes."""
        token = make_token(access_claims(realm_access={"roles": [f"team-{n:04d}-role" for n in range(400)]}))
        self.assertGreater(len(token), 9000)
        self.accepted(token)

    def test_critical_extensions(self) -> None:
        """A token with critical extensions is refused: none is understood here (RFC 7515 section 4.1.11)."""
        for crit in (["exp"], [], None, "b64"):
            header = {"alg": "RS256", "kid": "rsa", "crit": crit}
            token = sign_raw(json.dumps(header).encode(), json.dumps(access_claims()).encode(), rsa_key())
            verdict = self.verdict(token)
            assert isinstance(verdict, Refusal)
            self.assertIn(verdict.reason, (Reason.HEADER_TYPE, Reason.MALFORMED))

    def test_header_nested_to_the_limit(self) -> None:
        """A header nested a thousand levels deep is refused like any other, without an error of ours."""
        for depth in (10, 100, *range(900, 1000), 5000):
            header = b'{"typ":' + b"[" * depth + b"]" * depth + b"}"
            token = (base64url(header) + b".e30.AAAA").decode()
            verdict = self.verdict(token)
            assert isinstance(verdict, Refusal)
            self.assertIn(verdict.reason, (Reason.HEADER_TYPE, Reason.MALFORMED, Reason.TOO_LARGE))


class WrongKind(RulesCase):
    """Tokens of the same realm that are no access tokens."""

    def test_header_type(self) -> None:
        """Logout, DPoP and other typed tokens are refused by their header."""
        for kind in ("logout+jwt", "dpop+jwt", "JOSE", "", "at+jwt ", 5, ["JWT"], {"a": 1}):
            self.refused(Reason.HEADER_TYPE, make_token(access_claims(), headers={"typ": kind}))

    def test_id_token(self) -> None:
        """A Keycloak ID token is refused, even one whose ``aud`` is the resource and ``azp`` this client."""
        self.refused(Reason.TYPE, make_token(id_claims(nonce="n", aud=RESOURCE)))

    def test_other_typ_claims(self) -> None:
        """Refresh, Offline, Logout, DPoP tokens and unknown kinds are refused; so is another case."""
        for kind in ("Refresh", "Offline", "Logout", "DPoP", "ID", "bearer", "", 5, ["Bearer"], {"a": "b"}):
            refusal = self.refused(Reason.TYPE, make_token(access_claims(typ=kind)))
            self.assertIn("expected Bearer", refusal.detail)

    def test_sender_bound_token(self) -> None:
        """A token bound to a key (``cnf``) is worth nothing as a plain Bearer token."""
        self.refused(Reason.BOUND, make_token(access_claims(cnf={"jkt": "x"})))


class WrongIssuer(RulesCase):
    """The issuer is compared byte for byte."""

    def test_other_realm_on_the_same_host(self) -> None:
        """A token of another realm is refused; the log names both issuers."""
        refusal = self.refused(
            Reason.ISSUER, make_token(access_claims(iss="https://id.example/realms/other"))
        )
        self.assertEqual(
            refusal.detail,
            "iss expected https://id.example/realms/demo, token has 'https://id.example/realms/other'",
        )

    def test_near_misses(self) -> None:
        """A slash, another case, another port or another type is another issuer."""
        for issuer in (ISSUER + "/", ISSUER.upper(), "https://id.example:443/realms/demo", [ISSUER], 5, ""):
            self.refused(Reason.ISSUER, make_token(access_claims(iss=issuer)))
        self.refused(Reason.ISSUER, make_token(access_claims(iss=None)))


class WrongTime(RulesCase):
    """The boundaries, to the second."""

    def test_expiry_is_exact(self) -> None:
        """A token passes until the last instant before ``exp``, and from that very second no more."""
        token = make_token(access_claims(exp=NOW + 60))
        self.accepted(token, now=NOW + 59.999)
        self.refused(Reason.EXPIRED, token, now=NOW + 60)
        refusal = self.refused(Reason.EXPIRED, token, now=NOW + 61)
        self.assertEqual(refusal.detail, f"exp is {NOW + 60}, now is {NOW + 61}")

    def test_expiry_is_required(self) -> None:
        """A token that never expires, or whose ``exp`` is no time, is refused."""
        for expiry in (None, "2099-01-01", True, [NOW + 60], {}, float("nan"), float("inf"), 10**400):
            self.refused(Reason.NO_EXPIRY, make_token(access_claims(exp=expiry)))

    def test_fractional_expiry(self) -> None:
        """NumericDate may have a fraction (RFC 7519 section 2)."""
        token = make_token(access_claims(exp=NOW + 0.5))
        self.accepted(token, now=NOW + 0.25)
        self.refused(Reason.EXPIRED, token, now=NOW + 0.5)

    def test_not_before_and_issued_at_have_ten_seconds(self) -> None:
        """A realm whose clock is ahead by up to 10 s works; one second more is refused."""
        self.assertEqual(LEEWAY, 10)
        for name in ("nbf", "iat"):
            token = make_token(access_claims(**{name: NOW + 10}))
            self.accepted(token, now=NOW)
            refusal = self.refused(Reason.NOT_YET_VALID, token, now=NOW - 0.001)
            self.assertIn(f"{name} is {NOW + 10}", refusal.detail)
            self.refused(Reason.NOT_YET_VALID, make_token(access_claims(**{name: NOW + 11})))

    def test_unusable_not_before(self) -> None:
        """A ``nbf`` or ``iat`` that is no time is refused; an absent one is not."""
        for name in ("nbf", "iat"):
            for moment in ("soon", True, [NOW], float("inf"), float("nan")):
                self.refused(Reason.NOT_YET_VALID, make_token(access_claims(**{name: moment})))
            self.accepted(make_token(access_claims(**{name: None})))


class Audience(RulesCase):
    """Whom a token is meant for."""

    OTHER = {"azp": "other-client"}

    def test_other_client_of_the_realm(self) -> None:
        """An ordinary token of another client is refused; the log says what was expected and what came."""
        refusal = self.refused(Reason.AUDIENCE, make_token(access_claims(**self.OTHER)))
        self.assertEqual(
            refusal.detail,
            "aud expected https://mcp.example/mcp or azp mcp-proxy, "
            "token has aud ['account'] and azp 'other-client'",
        )

    def test_audience_names_the_resource(self) -> None:
        """A token of another client passes where an audience mapper put the resource into ``aud``."""
        for audience in (
            RESOURCE,
            ["account", RESOURCE],
            "https://MCP.example:443/mcp/",
            "https://mcp.example",
        ):
            self.accepted(make_token(access_claims(aud=audience, **self.OTHER)))

    def test_audience_of_another_resource(self) -> None:
        """Another path, host, scheme or port is another resource."""
        for audience in (
            "https://mcp.example/other",
            "https://mcp.example/mcp/deeper",
            "https://mcp.example/MCP",
            "https://evil.example/mcp",
            "http://mcp.example/mcp",
            "https://mcp.example:8443/mcp",
            "https://mcp.example/mcp?x=1",
            "mcp",
            "",
        ):
            self.refused(Reason.AUDIENCE, make_token(access_claims(aud=audience, **self.OTHER)))

    def test_audience_follows_the_path(self) -> None:
        """A token for one path of the proxy is refused at another."""
        token = make_token(access_claims(aud=RESOURCE, **self.OTHER))
        gate = Gate(POLICY, Endings(remember=86400))
        header = [b"Bearer " + token.encode()]
        first = gate.check(header, resource=RESOURCE, keys=KEYS, now=NOW)
        second = gate.check(header, resource="https://mcp.example/admin", keys=KEYS, now=NOW)
        self.assertIsInstance(first, Identity)
        assert isinstance(second, Refusal)
        self.assertEqual(second.reason, Reason.AUDIENCE)

    def test_absent_or_odd_audience(self) -> None:
        """A token without a usable ``aud`` is refused, unless it is this proxy's client's."""
        for audience in (None, 5, {}, [], [5, None], [[RESOURCE]], {"0": RESOURCE}):
            self.refused(Reason.AUDIENCE, make_token(access_claims(aud=audience, **self.OTHER)))
            self.accepted(make_token(access_claims(aud=audience)))

    def test_odd_client(self) -> None:
        """An ``azp`` that is no string, or only looks alike, is not this proxy's client."""
        for client in (None, [CLIENT_ID], CLIENT_ID.upper(), CLIENT_ID + " ", {CLIENT_ID: 1}):
            self.refused(Reason.AUDIENCE, make_token(access_claims(azp=client)))

    def test_configured_audiences_replace_the_rule(self) -> None:
        """With ``auth.audiences`` only those count: not the resource, not this proxy's client."""
        policy = Policy(
            issuer=ISSUER,
            client_id=CLIENT_ID,
            base_url="https://mcp.example",
            audiences=frozenset({"api", "b"}),
        )
        self.accepted(make_token(access_claims(aud=["account", "api"], **self.OTHER)), policy=policy)
        for claims in (access_claims(), access_claims(aud=RESOURCE), access_claims(aud="API")):
            refusal = self.refused(Reason.AUDIENCE, make_token(claims), policy=policy)
            self.assertIn("aud expected one of api, b", refusal.detail)


class Scopes(RulesCase):
    """``auth.requiredScopes``."""

    POLICY = Policy(
        issuer=ISSUER,
        client_id=CLIENT_ID,
        base_url="https://mcp.example",
        required_scopes=frozenset({"mcp:read", "mcp:write"}),
    )

    def test_all_required_scopes(self) -> None:
        """A token with every required scope passes, whatever else it has."""
        self.accepted(make_token(access_claims(scope="mcp:write x  mcp:read ")), policy=self.POLICY)

    def test_missing_scope(self) -> None:
        """A token without one of them is refused; the log says which."""
        refusal = self.refused(Reason.SCOPE, make_token(access_claims()), policy=self.POLICY)
        self.assertEqual(refusal.detail, "missing mcp:write, token has ['mcp:read', 'openid', 'profile']")
        for scope in (None, "", "mcp:readmcp:write", ["mcp:read", "mcp:write"]):
            self.refused(Reason.SCOPE, make_token(access_claims(scope=scope)), policy=self.POLICY)

    def test_audience_comes_before_scope(self) -> None:
        """A token for somebody else hears 401, not that a scope would help."""
        self.refused(Reason.AUDIENCE, make_token(access_claims(azp="other")), policy=self.POLICY)


class AnyToken(RulesCase):
    """Whatever arrives, the answer is a verdict."""

    @settings(max_examples=200)
    @given(st.dictionaries(st.sampled_from(CLAIM_NAMES), JSON, max_size=6))
    @example({"aud": [[["x"]]], "scope": {"a": 1}, "sub": [], "exp": -1, "typ": {}})
    def test_arbitrary_claims(self, changes: dict[str, Any]) -> None:
        """A well-signed token with arbitrary claims is judged, never an error."""
        self.verdict(make_token({**access_claims(), **changes}, ed_key()))

    @settings(max_examples=200)
    @given(
        st.dictionaries(
            st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "x5c", "jku", "zip", "cty"]),
            JSON | st.sampled_from(["RS256", "rsa", "JWT", "none", False, ["b64"]]),
        )
    )
    def test_arbitrary_header(self, header: dict[str, Any]) -> None:
        """A token with an arbitrary header is judged; a key it brings along is never used."""
        payload = json.dumps(access_claims()).encode()
        self.verdict(sign_raw(json.dumps(header).encode(), payload, ed_key()))

    @given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=100))
    def test_arbitrary_parts(self, head: bytes, body: bytes, signature: bytes) -> None:
        """Three parts of arbitrary bytes are refused."""
        token = b".".join(map(base64url, (head, body, signature))).decode()
        self.assertIsInstance(judge(token, keys=KEYS, policy=POLICY, now=NOW), Refusal)

    @given(st.text(max_size=200))
    def test_arbitrary_text(self, token: str) -> None:
        """Arbitrary text, lone surrogates included, is refused."""
        self.assertIsInstance(judge(token, keys=KEYS, policy=POLICY, now=NOW), Refusal)

    def test_key_brought_along(self) -> None:
        """A token with its own key in the header (``jwk``) is judged by the realm's keys alone."""
        stranger = rsa_key("stranger")
        for kid in ("rsa", "stranger"):
            token = make_token(access_claims(), stranger, headers={"kid": kid, "jwk": stranger.jwk()})
            self.assertIsInstance(self.verdict(token), Refusal)
