"""Rate limits: floods stop, ordinary life does not, and nothing grows."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.model import Limits, Rate
from mcp_oauth2_proxy.ops.limits import ADDRESSES, REPORT_EVERY, LimitKind, RateLimits, address_key

KIND = LimitKind.REGISTER


NONE = Rate(0, 1.0)


def limits(per_address: Rate, total: Rate = NONE) -> RateLimits:
    return RateLimits(evolve(Limits(), register_per_address=per_address, register_total=total))


class Buckets(SynchronousTestCase):
    """One address, several, and all together."""

    def test_burst_and_refill(self) -> None:
        """The whole count at once, then one at a time as the bucket fills up."""
        rates = limits(Rate(60, 60.0))
        for _ in range(60):
            self.assertIsNone(rates.check(KIND, "192.0.2.1", 100.0))
        limited = rates.check(KIND, "192.0.2.1", 100.0)
        assert limited is not None
        self.assertAlmostEqual(limited.retry_after, 1.0, places=3)
        self.assertEqual(limited.setting, "limits.registerPerAddress")
        self.assertIsNone(rates.check(KIND, "192.0.2.1", 101.0))
        self.assertIsNotNone(rates.check(KIND, "192.0.2.1", 101.0))
        self.assertIsNone(rates.check(KIND, "192.0.2.2", 101.0), "another address has its own bucket")
        for _ in range(60):
            self.assertIsNone(rates.check(KIND, "192.0.2.1", 200.0))

    def test_kinds_are_apart(self) -> None:
        """Registrations do not use up token requests."""
        rates = limits(Rate(1, 60.0))
        self.assertIsNone(rates.check(KIND, "192.0.2.1", 0.0))
        self.assertIsNotNone(rates.check(KIND, "192.0.2.1", 0.0))
        self.assertIsNone(rates.check(LimitKind.TOKEN, "192.0.2.1", 0.0))

    def test_a_flood_leaves_the_total_to_others(self) -> None:
        """What an address's own limit refuses uses nothing of the total."""
        rates = limits(Rate(5, 60.0), Rate(10, 60.0))
        for _ in range(1000):
            rates.check(KIND, "192.0.2.1", 0.0)
        for _ in range(5):
            self.assertIsNone(rates.check(KIND, "192.0.2.2", 0.0))
        limited = rates.check(KIND, "192.0.2.3", 0.0)
        assert limited is not None
        self.assertEqual(limited.setting, "limits.registerTotal")
        # ... and what the total refuses uses nothing of the address's own.
        for _ in range(50):
            rates.check(KIND, "192.0.2.3", 0.0)
        for _ in range(5):
            self.assertIsNone(rates.check(KIND, "192.0.2.3", 60.0))

    def test_no_limit(self) -> None:
        """Zero is none."""
        rates = limits(Rate(0, 1.0))
        for _ in range(10_000):
            self.assertIsNone(rates.check(KIND, "192.0.2.1", 0.0))

    def test_memory(self) -> None:
        """A flood from everywhere is remembered within bounds, and cannot buy an address its bucket back."""
        rates = limits(Rate(1, 60.0), Rate(10_000, 60.0))
        pair = rates._pairs[KIND]
        self.assertIsNone(rates.check(KIND, "192.0.2.1", 0.0))
        for number in range(ADDRESSES[1] * 2):
            rates.check(KIND, f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1", 0.0)
        self.assertLessEqual(len(pair._full_at), ADDRESSES[1])
        self.assertIsNotNone(rates.check(KIND, "192.0.2.1", 0.0))

    def test_reports(self) -> None:
        """The log is told at once, and then every few seconds with how many there were."""
        rates = limits(Rate(1, 3600.0))
        rates.check(KIND, "192.0.2.1", 0.0)
        told = [rates.check(KIND, "192.0.2.1", second / 10) for second in range(300)]
        reports = [limited.refused for limited in told if limited is not None and limited.refused is not None]
        self.assertEqual(len(told), 300)
        self.assertEqual(len(reports), round(30 / REPORT_EVERY))
        self.assertEqual(reports[0], 1)
        self.assertEqual(sum(reports[1:]), round(REPORT_EVERY * 10) * 2)

    @given(
        st.integers(1, 20),
        st.floats(0.5, 100),
        st.lists(st.tuples(st.floats(-5, 20), st.sampled_from("ab")), max_size=120),
    )
    def test_never_more(self, count: int, seconds: float, steps: list[tuple[float, str]]) -> None:
        """In no stretch of time does an address get more than its bucket and what flowed into it.

        Also when the clock is set back now and then: then the stretch counts as no time.
        """
        rates = limits(Rate(count, seconds))
        now, elapsed = 1000.0, 0.0
        admitted: dict[str, list[float]] = {"a": [], "b": []}
        for step, address in steps:
            now += step
            elapsed += max(step, 0.0)
            if rates.check(KIND, address, now) is None:
                admitted[address].append(elapsed)
        for moments in admitted.values():
            for start, first in enumerate(moments):
                for end in range(start, len(moments)):
                    flowed = (moments[end] - first) * count / seconds
                    self.assertLessEqual(end - start + 1, count + flowed + 1.01)


class Keys(SynchronousTestCase):
    """What counts as one client."""

    def test_keys(self) -> None:
        """An IPv6 network of 64 bits is one client; IPv4 is itself however it is written."""
        self.assertEqual(address_key("2001:db8:1:2::1"), address_key("2001:db8:1:2:ffff::9"))
        self.assertNotEqual(address_key("2001:db8:1:2::1"), address_key("2001:db8:1:3::1"))
        self.assertEqual(address_key("::ffff:192.0.2.1"), address_key("192.0.2.1"))
        self.assertNotEqual(address_key("192.0.2.1"), address_key("192.0.2.2"))
        self.assertEqual(address_key("fe80::1%eth0"), address_key("fe80::2%eth1"))
        self.assertEqual(address_key(""), "")

    @given(st.text(max_size=30))
    def test_any_text(self, text: str) -> None:
        """No text makes it fail."""
        self.assertIsInstance(address_key(text), str)


class OrdinaryLife(SynchronousTestCase):
    """What the defaults must let pass."""

    def test_a_team_behind_one_address(self) -> None:
        """250 people register, log in with a retry each, redeem and refresh, all within one minute."""
        rates = RateLimits(Limits())
        for person in range(250):
            now = person * 60 / 250
            steps = [KIND, *[LimitKind.AUTHORIZE] * 6, *[LimitKind.TOKEN] * 3]
            for kind in steps:
                self.assertIsNone(rates.check(kind, "192.0.2.1", now), (person, kind))

    def test_fifty_logins_in_one_second(self) -> None:
        """From one address."""
        rates = RateLimits(Limits())
        for _ in range(50):
            for kind in (KIND, *[LimitKind.AUTHORIZE] * 3, LimitKind.TOKEN):
                self.assertIsNone(rates.check(kind, "192.0.2.1", 0.0))
