"""A client that reads slowly, and whoever writes to it."""

from __future__ import annotations

from typing import Any

from mcp_oauth2_proxy.wire.channel import LINGER, MAX_PIPELINED
from mcp_oauth2_proxy.wire.limits import Limits
from tests.wire.test_channel import GET, AtOnce, ChannelCase


class Producer:
    """A source of an answer that notes what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


class Answering(ChannelCase):
    """Answers that take long."""

    def test_each_answer_is_held_back(self) -> None:
        """A slow reader holds back every answer, and hears nothing of those that are over."""
        producers: list[Any] = [Producer(), Producer()]
        for number, producer in enumerate(producers):
            self.wire.receive(GET)
            request = self.root.requests[number]
            request.registerProducer(producer, True)
            self.wire.producer.pauseProducing()
            self.wire.producer.resumeProducing()
            request.unregisterProducer()
            request.finish()
        self.wire.producer.pauseProducing()
        self.assertEqual([producer.calls for producer in producers], [["pause", "resume"]] * 2)

    def test_slow_from_the_start(self) -> None:
        """A producer that comes while the client is behind is told so at once."""
        self.wire.receive(GET)
        self.wire.producer.pauseProducing()
        producer = Producer()
        self.root.requests[0].registerProducer(producer, True)
        self.assertEqual(producer.calls, ["pause"])
        self.wire.producer.resumeProducing()
        self.assertEqual(producer.calls, ["pause", "resume"])

    def test_pull(self) -> None:
        """A producer that wants to be asked for each piece is asked by the transport itself."""
        self.wire.receive(GET)
        request, producer = self.root.requests[0], Producer()
        request.registerProducer(producer, False)
        self.assertIs(self.wire.producer, producer)
        request.unregisterProducer()
        request.finish()
        self.wire.producer.pauseProducing()
        self.assertEqual(producer.calls, [])

    def test_who_waits_for_the_client(self) -> None:
        """What is to be done when the client goes is done once, and not at all after a whole answer."""
        lost: list[int] = []
        for number in range(3):
            self.wire.receive(GET)
            self.root.requests[number].whenLost(lambda number=number: lost.append(number))
            if number < 2:
                self.root.requests[number].finish(b"whole")
        self.wire.close()
        self.assertEqual(lost, [2])
        self.assertEqual(self.wire.sent.count(b"\r\n\r\n5\r\nwhole\r\n0\r\n\r\n"), 2)


class Streams(ChannelCase):
    """A stream whose reader does not read."""

    def test_it_may_wait(self) -> None:
        """It has all the time there is, until it has ended."""
        self.site.limits = Limits()
        self.wire.receive(GET * 2)
        request = self.root.requests[0]
        self.wire.producer.pauseProducing()
        self.clock.advance(100_000)
        self.assertFalse(self.wire.over)
        request.finish()
        self.clock.advance(119)
        self.assertFalse(self.wire.over)
        self.clock.advance(1 + LINGER)
        self.assertTrue(self.wire.over)


class AnsweredAtOnce(ChannelCase):
    """Short answers that nobody reads."""

    resource = AtOnce

    def test_who_does_not_read_is_not_answered(self) -> None:
        """While answers pile up no further request is begun, however many the client sends."""
        self.wire.receive(GET)
        self.wire.producer.pauseProducing()
        self.wire.receive(GET * 100)
        self.assertEqual(self.wire.sent.count(b"HTTP/1.1 200 "), 1)
        self.assertFalse(self.wire.reading)
        self.assertLessEqual(self.site.active_requests, 1 + MAX_PIPELINED)
        self.wire.producer.resumeProducing()
        self.assertEqual(self.wire.sent.count(b"HTTP/1.1 200 "), 101)
        self.assertTrue(self.wire.reading)

    def test_who_reads_at_last(self) -> None:
        """Once all has been answered the connection is idle like any other, and closed in time."""
        self.wire.receive(GET)
        self.wire.producer.pauseProducing()
        self.wire.receive(GET * 100)
        self.wire.producer.resumeProducing()
        self.clock.advance(119)
        self.assertFalse(self.wire.over)
        self.clock.advance(1)
        self.assertTrue(self.wire.over)

    def test_who_asks_and_never_reads(self) -> None:
        """Without a write timeout, whole answers are kept as long as an idle connection is."""
        self.site.limits = Limits()
        for behind in (GET * 100, GET, b""):
            self.wire = self.connect()
            self.wire.receive(GET)
            self.wire.producer.pauseProducing()
            self.wire.receive(behind)
            self.clock.advance(119)
            self.assertFalse(self.wire.over)
            self.clock.advance(1 + LINGER)
            self.assertTrue(self.wire.over)

    def test_who_never_reads(self) -> None:
        """Such a client is cut at the write timeout."""
        self.wire.receive(GET)
        self.wire.producer.pauseProducing()
        self.clock.advance(7)
        self.assertTrue(self.wire.over)
