"""The Authorization header, and what the gate remembers."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.model import Auth, Config, Secret, Upstream
from mcp_oauth2_proxy.gate import gate as gate_module
from mcp_oauth2_proxy.gate.endings import Endings
from mcp_oauth2_proxy.gate.gate import Gate, bearer_token
from mcp_oauth2_proxy.gate.keys import KeySet
from mcp_oauth2_proxy.gate.model import Identity, Reason, Refusal
from mcp_oauth2_proxy.gate.policy import Policy
from mcp_oauth2_proxy.gate.rules import MAX_TOKEN_BYTES, judge
from tests.support.keys import CLIENT_ID, ISSUER, NOW, RESOURCE, access_claims, key_set, make_token, rsa_key

POLICY = Policy(issuer=ISSUER, client_id=CLIENT_ID, base_url="https://mcp.example")
KEYS = key_set(rsa_key())


class Header(SynchronousTestCase):
    """RFC 6750 section 2.1."""

    def refused(self, reason: Reason, *values: bytes) -> Refusal:
        verdict = bearer_token(values)
        assert isinstance(verdict, Refusal), verdict
        self.assertEqual(verdict.reason, reason)
        return verdict

    def test_bearer_token(self) -> None:
        """The scheme's case and extra spaces don't matter."""
        for value in (b"Bearer abc.d-_~+/e==", b"bearer abc.d-_~+/e==", b"BEARER   abc.d-_~+/e==  "):
            self.assertEqual(bearer_token([value]), b"abc.d-_~+/e==")

    def test_no_token(self) -> None:
        """Without a Bearer token the client is only told where to get one."""
        self.refused(Reason.MISSING)
        for value in (b"", b"Basic dXNlcjpwYXNz", b"abc.def.ghi", b"Bearerx abc", b"DPoP abc"):
            self.refused(Reason.MISSING, value)

    def test_malformed(self) -> None:
        """A Bearer header without exactly one b64token is refused."""
        for value in (
            b"Bearer",
            b"Bearer ",
            b"Bearer a b",
            b"Bearer a,b",
            b"Bearer =a",
            b'Bearer "a"',
            b"Bearer \xff",
        ):
            self.refused(Reason.MALFORMED, value)

    def test_two_headers(self) -> None:
        """Two Authorization headers are refused even where they agree: readers might pick either."""
        self.refused(Reason.MALFORMED, b"Bearer a", b"Bearer a")
        self.refused(Reason.MALFORMED, b"Bearer a", b"Basic b")

    def test_too_large(self) -> None:
        """A header of more than 16 KiB is refused unread."""
        self.refused(Reason.TOO_LARGE, b"Bearer " + b"a" * MAX_TOKEN_BYTES)

    @given(st.lists(st.binary(max_size=60) | st.binary(max_size=60).map(b"Bearer ".__add__), max_size=2))
    def test_arbitrary_headers(self, values: list[bytes]) -> None:
        """Arbitrary bytes are a token of the grammar or a refusal."""
        verdict = bearer_token(values)
        if isinstance(verdict, bytes):
            self.assertRegex(verdict, rb"\A[A-Za-z0-9._~+/-]+=*\Z")


class Memory(SynchronousTestCase):
    """Verified tokens are remembered; what can change is asked anew."""

    def setUp(self) -> None:
        self.judged = 0

        def counting(*arguments: Any, **options: Any) -> Identity | Refusal:
            self.judged += 1
            return judge(*arguments, **options)

        patched = patch.object(gate_module, "judge", counting)
        patched.start()
        self.addCleanup(patched.stop)
        self.gate = Gate(POLICY, Endings(remember=86400))

    def check(
        self, token: str, *, keys: KeySet = KEYS, now: float = NOW, resource: str = RESOURCE
    ) -> Identity | Refusal:
        header = [b"Bearer " + token.encode()]
        return self.gate.check(header, resource=resource, keys=keys, now=now)

    def assertReason(self, verdict: Identity | Refusal, reason: Reason) -> None:
        assert isinstance(verdict, Refusal), verdict
        self.assertEqual(verdict.reason, reason)

    def test_signature_is_checked_once(self) -> None:
        """A client's thousand calls with one token cost one signature check."""
        token = make_token(access_claims())
        first = self.check(token)
        for _ in range(10):
            self.assertIs(self.check(token), first)
        self.assertEqual(self.judged, 1)

    def test_remembered_token_expires_to_the_second(self) -> None:
        """What is remembered is not good a moment longer than its ``exp``."""
        token = make_token(access_claims(exp=NOW + 60))
        self.assertIsInstance(self.check(token), Identity)
        self.assertIsInstance(self.check(token, now=NOW + 59.9), Identity)
        self.assertReason(self.check(token, now=NOW + 60), Reason.EXPIRED)
        self.assertEqual(len(self.gate), 0)

    def test_withdrawn_key_ends_its_tokens(self) -> None:
        """A key that leaves the realm's key set takes its tokens along at once, remembered ones too."""
        token = make_token(access_claims())
        self.assertIsInstance(self.check(token), Identity)
        self.assertReason(self.check(token, keys=key_set(rsa_key("next"))), Reason.UNKNOWN_KEY)
        self.assertIsInstance(self.check(token, keys=key_set(rsa_key(), rsa_key("next"))), Identity)

    def test_refreshed_key_set_keeps_tokens(self) -> None:
        """A scheduled refresh of the key set costs no signature checks."""
        token = make_token(access_claims())
        self.check(token)
        self.check(token, keys=key_set(rsa_key("next"), rsa_key()))
        self.assertEqual(self.judged, 1)

    def test_refusals_are_not_remembered(self) -> None:
        """A flood of forged tokens fills nothing."""
        for number in range(20):
            self.check(
                make_token(access_claims(sub=str(number)), rsa_key("stranger"), headers={"kid": "rsa"})
            )
        self.assertEqual(len(self.gate), 0)

    def test_token_for_another_resource_is_refused_each_time(self) -> None:
        """A well-signed token for somebody else stays refused, without checking its signature again."""
        token = make_token(access_claims(azp="other"))
        for _ in range(3):
            self.assertReason(self.check(token), Reason.AUDIENCE)
        self.assertEqual(self.judged, 1)

    def test_missing_scope_is_refused_each_time(self) -> None:
        """The same for a token without a required scope."""
        policy = Policy(ISSUER, CLIENT_ID, "https://mcp.example", required_scopes=frozenset({"x"}))
        self.gate = Gate(policy, Endings(remember=86400))
        token = make_token(access_claims())
        for _ in range(3):
            self.assertReason(self.check(token), Reason.SCOPE)
        self.assertEqual(self.judged, 1)

    def test_token_without_kid_is_not_remembered(self) -> None:
        """Nothing would tell that its key was withdrawn, so its signature is checked each time."""
        token = make_token(access_claims(), headers={"kid": None})
        for _ in range(2):
            self.assertIsInstance(self.check(token), Identity)
        self.assertEqual((self.judged, len(self.gate)), (2, 0))

    def test_memory_is_bounded_in_number(self) -> None:
        """The least recently used token goes first; its next use checks it again."""
        self.gate = Gate(POLICY, Endings(remember=86400), max_remembered=2)
        one, two, three = (make_token(access_claims(sub=name)) for name in "123")
        for token in (one, two, one, three, one):
            self.check(token)
        self.assertEqual((len(self.gate), self.judged), (2, 3))
        self.check(two)
        self.assertEqual((len(self.gate), self.judged), (2, 4))

    def test_memory_is_bounded_in_bytes(self) -> None:
        """Few huge tokens count as much as many small ones."""
        tokens = [make_token(access_claims(sub=name)) for name in "1234"]
        self.gate = Gate(POLICY, Endings(remember=86400), max_remembered_bytes=2 * len(tokens[0]))
        for token in tokens:
            self.check(token)
        self.assertEqual(len(self.gate), 2)
        self.check(tokens[3])
        self.assertEqual(self.judged, 4)
        self.gate = Gate(POLICY, Endings(remember=86400), max_remembered_bytes=10)
        self.assertIsInstance(self.check(tokens[0]), Identity)
        self.assertEqual(len(self.gate), 0)

    def test_no_token_is_kept(self) -> None:
        """A dump of the gate's memory shows no token."""
        token = make_token(access_claims())
        self.check(token)
        self.assertNotIn(token, repr(vars(self.gate)))
        self.assertNotIn(token.rsplit(".", 1)[1], repr(vars(self.gate)))


class Configured(SynchronousTestCase):
    """From the operator's settings to the rules."""

    def test_policy_from_config(self) -> None:
        """Every setting that concerns tokens reaches the gate."""
        auth = Auth(
            base_url="https://mcp.example/p",
            issuer_url=ISSUER,
            client_id="c",
            client_secret=Secret("s"),
            audiences=("api",),
            required_scopes=("r", "w"),
        )
        policy = Policy.from_config(Config(upstream=Upstream("http://up"), auth=auth))
        self.assertEqual(
            policy, Policy(ISSUER, "c", "https://mcp.example/p", frozenset({"api"}), frozenset({"r", "w"}))
        )
