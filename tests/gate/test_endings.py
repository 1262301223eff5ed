"""Sessions that have ended: which tokens are worth nothing, and what is kept in mind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.gate.endings import Ending, Endings
from mcp_oauth2_proxy.gate.gate import Gate
from mcp_oauth2_proxy.gate.model import Identity, Reason, Refusal
from mcp_oauth2_proxy.gate.policy import Policy
from tests.support.keys import CLIENT_ID, ISSUER, NOW, RESOURCE, access_claims, key_set, make_token, rsa_key

KEYS = key_set(rsa_key())
DAY = 86400.0
_names = st.sampled_from(["a", "b", "c"])
_moments = st.integers(NOW - 100, NOW + 100)


class AtTheGate(SynchronousTestCase):
    """A token that is good in every other way."""

    def setUp(self) -> None:
        self.endings = Endings(remember=DAY)
        self.gate = Gate(Policy(ISSUER, CLIENT_ID, "https://mcp.example"), self.endings)

    def check(self, **claims: object) -> Identity | Refusal:
        token = make_token(access_claims(**{"sid": "s1", "sub": "anna", **claims})).encode()
        return self.gate.check([b"Bearer " + token], resource=RESOURCE, keys=KEYS, now=NOW)

    def assert_ended(self, verdict: Identity | Refusal) -> None:
        assert isinstance(verdict, Refusal), verdict
        self.assertEqual(verdict.reason, Reason.ENDED)

    def test_a_session(self) -> None:
        """A token that was let in a moment ago is refused; another session of the same person goes on."""
        self.assertIsInstance(self.check(), Identity)
        self.endings.add(Ending(session="s1", subject="anna", at=NOW), NOW)
        self.assert_ended(self.check())
        self.assertIsInstance(self.check(sid="s2"), Identity)

    def test_a_subject(self) -> None:
        """All of a person's sessions, whatever they are called; nobody else's."""
        self.endings.add(Ending(subject="anna", at=NOW), NOW)
        for sid in ("s1", "s2", None):
            self.assert_ended(self.check(sid=sid))
        self.assertIsInstance(self.check(sub="bert"), Identity)

    def test_who_logs_in_again(self) -> None:
        """Tokens issued after the ending are good, under the same session name too."""
        self.endings.add(Ending(session="s1", at=NOW - 5), NOW)
        self.endings.add(Ending(subject="anna", at=NOW - 5), NOW)
        self.assert_ended(self.check(iat=NOW - 5))
        self.assertIsInstance(self.check(iat=NOW - 4), Identity)

    def test_tokens_that_say_little(self) -> None:
        """Without sid and sub nothing can end a token; without iat a session's ending does. None crashes."""
        self.endings.add(Ending(session="s1", at=NOW), NOW)
        self.assertIsInstance(self.check(sid=None, sub=None), Identity)
        for odd in ([], {}, 7, True):
            self.assertIsInstance(self.check(sid=odd, sub=odd), Identity)
        self.assert_ended(self.check(iat=None))


class Kept(SynchronousTestCase):
    """What the register holds."""

    def test_news_once(self) -> None:
        """The same ending again, or an older one, tells nothing new; a later one does."""
        endings = Endings(remember=DAY)
        self.assertTrue(endings.add(Ending(session="s", at=NOW), NOW))
        self.assertFalse(endings.add(Ending(session="s", at=NOW), NOW))
        self.assertFalse(endings.add(Ending(session="s", at=NOW - 1), NOW))
        self.assertTrue(endings.add(Ending(session="s", at=NOW + 1), NOW))

    def test_offline_access(self) -> None:
        """A refresh token of offline access survives a logout that does not name it."""
        endings = Endings(remember=DAY)
        endings.add(Ending(session="s", at=NOW), NOW)
        self.assertFalse(endings.ended("s", None, NOW, offline=True))
        self.assertTrue(endings.ended("s", None, NOW))
        self.assertTrue(endings.add(Ending(session="s", at=NOW, offline=True), NOW))
        self.assertTrue(endings.ended("s", None, NOW, offline=True))

    def test_forgotten_in_time(self) -> None:
        """After its time an ending is gone, and nothing is asked any more."""
        endings = Endings(remember=DAY)
        endings.add(Ending(session="s", at=NOW), NOW)
        self.assertEqual(endings.forget(NOW + DAY - 1), 0)
        self.assertTrue(endings.moments)
        endings.forget(NOW + DAY)
        self.assertEqual(endings.moments, {})
        self.assertFalse(endings.add(Ending(session="s", at=NOW), NOW + DAY))

    def test_bounded(self) -> None:
        """Where too many end, the oldest are forgotten, and their number is told."""
        endings = Endings(remember=DAY, most=3)
        for number in range(5):
            endings.add(Ending(session=f"s{number}", at=NOW + number), NOW)
        self.assertEqual(endings.forget(NOW), 2)
        self.assertEqual(
            [endings.ended(f"s{number}", None, NOW) for number in range(5)], [False] * 2 + [True] * 3
        )

    def test_an_ending_of_nothing(self) -> None:
        """Neither session nor subject, or a name without measure, is an error of ours."""
        for wrong in ({}, {"session": "x" * 257}, {"subject": "x" * 257}):
            with self.assertRaises(ValueError):
                Ending(**wrong, at=NOW)  # type: ignore[arg-type]

    @given(
        st.lists(st.tuples(st.none() | _names, _names, _moments), max_size=8),
        st.none() | _names,
        st.none() | _names,
        _moments,
    )
    def test_a_token_is_ended_when_any_ending_fits(
        self,
        made: list[tuple[str | None, str, int]],
        session: str | None,
        subject: str | None,
        issued_at: int,
    ) -> None:
        """Whatever the order in which endings are heard of, and however often."""
        endings = Endings(remember=DAY)
        for sid, sub, at in made + made[::-1]:
            endings.add(Ending(session=sid, subject=sub, at=at), NOW)
        fits = any(
            issued_at <= at and (sid == session if sid is not None else sub == subject)
            for sid, sub, at in made
        )
        self.assertEqual(endings.ended(session, subject, issued_at), fits)
