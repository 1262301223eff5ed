"""How many connections there may be."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from mcp_oauth2_proxy.wire.admission import Admission
from mcp_oauth2_proxy.wire.limits import Limits
from mcp_oauth2_proxy.wire.site import REPORT_PAUSE, WireSite
from tests.wire.transport import Wire

TOTAL, EACH = 5, 3
PROXY = "10.0.0.1"


class Comings(RuleBasedStateMachine):
    """Connections come from a few addresses, one of them a proxy's, and go."""

    def __init__(self) -> None:
        super().__init__()
        limits = Limits(max_connections=TOTAL, max_connections_per_address=EACH)
        self.admission = Admission(limits, lambda host: host == PROXY)
        self.open: Counter[str] = Counter()

    @rule(host=st.sampled_from(["192.0.2.1", "192.0.2.2", PROXY, ""]))
    def come(self, host: str) -> None:
        """One is admitted exactly where there is room for it."""
        room = self.open.total() < TOTAL and (host == PROXY or self.open[host] < EACH)
        assert (self.admission.enter(host) is None) == room
        self.open[host] += room

    @precondition(lambda self: self.open.total())
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        """One that was admitted goes."""
        host = data.draw(st.sampled_from(sorted(self.open.elements())))
        self.admission.leave(host)
        self.open[host] -= 1

    @invariant()
    def nothing_is_kept(self) -> None:
        """Addresses without a connection take no room."""
        assert set(self.admission._by_address) == set(self.open.elements())


class Admissions(SynchronousTestCase):
    """The counting."""

    def test_comings_and_goings(self) -> None:
        """Whatever the order: never more than may be, and never fewer."""
        run_state_machine_as_test(Comings)

    def test_no_limit(self) -> None:
        """0 is no limit."""
        admission = Admission(Limits(max_connections=0, max_connections_per_address=0))
        self.assertEqual({admission.enter("192.0.2.1") for _ in range(20_000)}, {None})


class Site(SynchronousTestCase):
    """The site that counts."""

    def setUp(self) -> None:
        self.clock = Clock()
        limits = Limits(max_connections=3, max_connections_per_address=2)
        self.site = WireSite(Resource(), reactor=self.clock, limits=limits)

    def connect(self, host: str) -> Wire:
        wire = Wire(self.site.buildProtocol(IPv4Address("TCP", host, 4711)))
        self.addCleanup(wire.close)
        return wire

    def test_one_too_many(self) -> None:
        """It is told so and closed; when another has gone there is room again."""
        first, _ = self.connect("192.0.2.1"), self.connect("192.0.2.1")
        third = self.connect("192.0.2.1")
        self.assertTrue(third.over)
        self.assertTrue(third.sent.startswith(b"HTTP/1.1 503 "), third.sent)
        head, _, body = third.sent.partition(b"\r\n\r\n")
        self.assertIn(b"Content-Length: %d\r\n" % len(body), head)
        self.assertFalse(self.connect("192.0.2.2").over)
        self.assertTrue(self.connect("192.0.2.3").over, "the fourth of three")
        first.close()
        self.assertFalse(self.connect("192.0.2.1").over)

    def test_a_flood_is_one_line(self) -> None:
        """A thousand refusals are a line with their number, not a thousand lines."""
        lines = self.catch()
        for _ in range(1002):
            self.connect("192.0.2.1")
        self.clock.advance(REPORT_PAUSE)
        self.connect("192.0.2.1")
        self.assertEqual([line["count"] for line in lines], [1, 1000])

    def catch(self) -> list[dict[str, object]]:
        """Return the log lines of the site, as they will come."""
        lines: list[dict[str, object]] = []

        class Caught:
            def warn(self, _text: str, **fields: object) -> None:
                lines.append(fields)

        self.patch(WireSite, "_log", Caught())
        return lines
