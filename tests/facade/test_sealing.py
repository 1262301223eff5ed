"""Sealed values: only what was sealed here, for this purpose, in time, comes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.model import Auth, Secret
from mcp_oauth2_proxy.facade.errors import SealError
from mcp_oauth2_proxy.facade.sealing import MAX_SEALED, Purpose, Sealer, digest

records = st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text()), max_size=5)


class Sealing(SynchronousTestCase):
    """One sealer with one key, at a time that the test holds."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.sealer = Sealer([b"one"], self.clock.seconds)

    @given(records.filter(lambda record: "\ud800" not in str(record)), st.sampled_from(Purpose))
    def test_round_trip(self, record: dict[str, object], purpose: Purpose) -> None:
        """A record comes back as it was, and its token fits into a URL as it is."""
        token = self.sealer.seal(purpose, record)
        self.assertRegex(token, r"\A[A-Za-z0-9_-]+\Z")
        self.assertEqual(self.sealer.open(purpose, token), record)

    @given(st.data())
    def test_no_altered_token_opens(self, data: st.DataObject) -> None:
        """Whatever one changes in a token, it opens no more: not even another spelling of the same bytes."""
        token = self.sealer.seal(Purpose.CODE, {"a": 1})
        place = data.draw(st.integers(0, len(token) - 1))
        other = data.draw(st.characters(codec="utf-8").filter(lambda c: c != token[place]))
        for changed in (
            token[:place] + other + token[place + 1 :],
            token[:place] + other + token[place:],
            token[:place] + token[place + 1 :],
            token + "=",
            token + "\n",
        ):
            self.assertRaises(SealError, self.sealer.open, Purpose.CODE, changed)

    @given(st.text(max_size=200))
    def test_any_text_raises_seal_error_only(self, text: str) -> None:
        """Whatever comes as a token is refused quietly."""
        self.assertRaises(SealError, self.sealer.open, Purpose.CLIENT, text)

    def test_purposes_are_apart(self) -> None:
        """A registration cannot be passed off as a refresh token, nor a refresh token as a code."""
        for sealed in Purpose:
            token = self.sealer.seal(sealed, {})
            for opened in set(Purpose) - {sealed}:
                self.assertRaises(SealError, self.sealer.open, opened, token)

    def test_age(self) -> None:
        """A token opens until its time is over, then says that it expired; 0 and None mean for ever."""
        token = self.sealer.seal(Purpose.CLIENT, {})
        self.clock.advance(10)
        self.sealer.open(Purpose.CLIENT, token, 10)
        self.clock.advance(1)
        error = self.assertRaises(SealError, self.sealer.open, Purpose.CLIENT, token, 10)
        self.assertTrue(error.expired)
        self.clock.advance(10**9)
        self.sealer.open(Purpose.CLIENT, token, 0)
        self.sealer.open(Purpose.CLIENT, token)

    def test_a_token_from_the_future_has_no_time(self) -> None:
        """A replica's clock may be a minute ahead, not more."""
        ahead = Clock()
        ahead.advance(self.clock.seconds() + 120)
        token = Sealer([b"one"], ahead.seconds).seal(Purpose.CODE, {})
        self.assertRaises(SealError, self.sealer.open, Purpose.CODE, token, 300)
        self.clock.advance(70)
        self.sealer.open(Purpose.CODE, token, 300)

    def test_too_long_is_not_looked_at(self) -> None:
        """A token longer than any of ours is refused by its length."""
        error = self.assertRaises(SealError, self.sealer.open, Purpose.CODE, "A" * (MAX_SEALED + 1))
        self.assertIn("too long", str(error))

    def test_rotation(self) -> None:
        """After a new key is put first, what the old one sealed still opens; without the old it does not."""
        token, mac = self.sealer.seal(Purpose.CLIENT, {"a": 1}), self.sealer.mac(Purpose.CLIENT_SECRET, "id")
        rotated = Sealer([b"two", b"one"], self.clock.seconds)
        self.assertEqual(rotated.open(Purpose.CLIENT, token), {"a": 1})
        self.assertTrue(rotated.verify_mac(Purpose.CLIENT_SECRET, "id", mac))
        self.assertRaises(SealError, self.sealer.open, Purpose.CLIENT, rotated.seal(Purpose.CLIENT, {}))
        finished = Sealer([b"two"], self.clock.seconds)
        self.assertRaises(SealError, finished.open, Purpose.CLIENT, token)
        self.assertFalse(finished.verify_mac(Purpose.CLIENT_SECRET, "id", mac))

    @given(st.text(), st.text())
    def test_macs(self, message: str, other: str) -> None:
        """A signature fits its message and purpose, and nothing else."""
        mac = self.sealer.mac(Purpose.STATE, message)
        self.assertEqual(len(mac), 43)
        self.assertTrue(self.sealer.verify_mac(Purpose.STATE, message, mac))
        self.assertFalse(self.sealer.verify_mac(Purpose.CLIENT_SECRET, message, mac))
        self.assertFalse(self.sealer.verify_mac(Purpose.STATE, message, other))
        self.assertEqual(self.sealer.verify_mac(Purpose.STATE, other, mac), other == message)

    def test_digest_keeps_parts_apart(self) -> None:
        """Two parts cannot be shifted into one another to get the same digest."""
        self.assertNotEqual(digest("ab", "c"), digest("a", "bc"))
        self.assertNotEqual(digest("a"), digest("a", ""))


class Keys(SynchronousTestCase):
    """Where the keys come from."""

    def auth(self, *keys: str, secret: str = "keycloak's") -> Auth:
        return Auth(
            base_url="https://h",
            issuer_url="https://k/realms/r",
            client_id="c",
            client_secret=Secret(secret),
            sealing_keys=tuple(Secret(key) for key in keys),
        )

    def test_default_is_derived_from_the_client_secret(self) -> None:
        """The minimal configuration seals with the same key on every replica, after every restart."""
        token = Sealer.from_config(self.auth(), lambda: 1e9).seal(Purpose.CLIENT, {"a": 1})
        self.assertEqual(Sealer.from_config(self.auth(), lambda: 1e9).open(Purpose.CLIENT, token), {"a": 1})
        stranger = Sealer.from_config(self.auth(secret="another"), lambda: 1e9)
        self.assertRaises(SealError, stranger.open, Purpose.CLIENT, token)

    def test_configured_keys_replace_it(self) -> None:
        """With sealingKeys the client secret may change without forgetting a client."""
        token = Sealer.from_config(self.auth("k1"), lambda: 1e9).seal(Purpose.CLIENT, {})
        Sealer.from_config(self.auth("k2", "k1", secret="new"), lambda: 1e9).open(Purpose.CLIENT, token)
        self.assertRaises(SealError, Sealer.from_config(self.auth(), lambda: 1e9).open, Purpose.CLIENT, token)

    def test_no_keys_is_a_mistake(self) -> None:
        """A sealer without a key cannot be made."""
        self.assertRaises(ValueError, Sealer, [], lambda: 0.0)
