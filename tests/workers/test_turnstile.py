"""Who accepts the next connection."""

from __future__ import annotations

import os
import socket
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.workers.turnstile import AT_ONCE, STEP_BACK, Counts, SharedPort, is_ahead


class Rule(SynchronousTestCase):
    """Clearly ahead of the one with the fewest."""

    def test_numbers(self) -> None:
        """One more than the other is not yet ahead; of many it takes an eighth."""
        self.assertEqual([is_ahead(mine, [0]) for mine in range(4)], [False, False, True, True])
        self.assertEqual([is_ahead(mine, [400, 900]) for mine in (451, 452)], [False, True])

    def test_nobody_else(self) -> None:
        """Alone, or with others who take none, nobody is ahead."""
        self.assertFalse(is_ahead(10_000, []))
        self.assertFalse(is_ahead(10_000, [-1, -1]))

    @given(st.lists(st.integers(-1, 2000), min_size=1))
    def test_somebody_always_accepts(self, counts: list[int]) -> None:
        """Whoever has the fewest is never ahead, so that no connection waits for ever."""
        taking = [count for count in counts if count >= 0]
        if taking:
            least = counts.index(min(taking))
            self.assertFalse(is_ahead(counts[least], counts[:least] + counts[least + 1 :]))


class Shared(SynchronousTestCase):
    """The memory that processes share."""

    def test_what_one_tells_the_others_see(self) -> None:
        """By descriptor, as a process that was handed it."""
        counts, descriptor = Counts.create(3)
        self.addCleanup(os.close, descriptor)
        theirs = Counts(os.dup(descriptor), 3)
        self.assertEqual(theirs.others(1), [-1, -1])
        counts.tell(2, 7)
        theirs.tell(1, 70_000)
        self.assertEqual((theirs.others(1), counts.others(2)), ([7, -1], [70_000, -1]))
        theirs.leave(1)
        self.assertEqual(counts.others(2), [-1, -1])


class _Reactor(Clock):
    """A clock that notes who wants to read."""

    def __init__(self) -> None:
        super().__init__()
        self.reading: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.reading.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.reading.discard(reader)

    removeWriter = removeReader


class Ports(SynchronousTestCase):
    """A port, with clients that are connected and wait to be accepted."""

    def setUp(self) -> None:
        self.reactor = _Reactor()
        self.accepted: list[Protocol] = []
        self.ahead = False
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        self.addCleanup(listening.close)
        factory = Factory.forProtocol(self.protocol)
        factory.noisy = False
        self.port = SharedPort.adopt(
            self.reactor, listening.fileno(), socket.AF_INET, factory, lambda: self.ahead
        )
        self.addCleanup(self.stop)
        for _ in range(10):
            self.addCleanup(socket.create_connection(listening.getsockname()).close)

    def protocol(self) -> Protocol:
        self.accepted.append(Protocol())
        return self.accepted[-1]

    def stop(self) -> None:
        for protocol in self.accepted:
            protocol.transport.abortConnection()  # type: ignore[union-attr]
        self.port.stopListening()
        self.reactor.advance(1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_one_at_a_time(self) -> None:
        """However many wait: the others were woken as well."""
        self.port.doRead()
        self.assertEqual(len(self.accepted), 1)
        self.port.doRead()
        self.assertEqual(len(self.accepted), 2)

    def test_stepping_back(self) -> None:
        """A worker that is ahead takes none for a moment, and then what nobody else has taken."""
        self.ahead = True
        self.port.doRead()
        self.assertEqual((self.accepted, self.port in self.reactor.reading), ([], False))
        self.reactor.advance(STEP_BACK)
        self.assertIn(self.port, self.reactor.reading)
        self.port.doRead()
        self.assertEqual(len(self.accepted), AT_ONCE)
        self.port.doRead()
        self.assertEqual(len(self.accepted), AT_ONCE)

    def test_stopping_meanwhile(self) -> None:
        """A port that is closed while it steps back stays closed."""
        self.ahead = True
        self.port.doRead()
        self.port.stopListening()
        self.reactor.advance(1)
        self.assertNotIn(self.port, self.reactor.reading)
