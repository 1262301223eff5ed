"""A worker's end of the link, with a clock and a service that does nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.load import Said
from mcp_oauth2_proxy.workers.messages import DRAIN, LISTEN, Start, encode_others
from mcp_oauth2_proxy.workers.worker import LOOK_EVERY, LOOKS_A_REPORT, Link, receive_start


@define
class _Service:
    """What a link asks of the service."""

    listens: bool = True
    drained: bool = False
    in_the_way: list[str] = field(factory=list)
    told: int = 0
    on_listening: Callable[[], None] | None = None

    def reasons(self) -> list[str]:
        return list(self.in_the_way)

    def listen(self) -> None:
        self.listens = True
        if self.on_listening is not None:
            self.on_listening()

    def tell_count(self) -> None:
        self.told += 1


class Links(SynchronousTestCase):
    """What is said, and what is done."""

    def setUp(self) -> None:
        self.clock, self.service, self.stops = Clock(), _Service(), 0
        self.link = Link(self.clock, self.stop)
        self.wire = StringTransport()
        self.link.makeConnection(self.wire)

    def stop(self) -> None:
        self.stops += 1

    def serve(self, **state: Any) -> None:
        self.service = _Service(**state)
        self.link.serve(self.service)  # type: ignore[arg-type]

    def said(self) -> list[Any]:
        lines = self.wire.value().splitlines()
        self.wire.clear()
        return [json.loads(line) for line in lines]

    def test_reports(self) -> None:
        """At once, on every change, and otherwise now and then, to show that it lives."""
        self.serve(in_the_way=["keycloak: away"])
        self.assertEqual(self.said(), [{"listens": True, "reasons": ["keycloak: away"]}])
        self.service.in_the_way.clear()
        self.clock.advance(LOOK_EVERY)
        self.assertEqual([report["reasons"] for report in self.said()], [[]])
        self.clock.pump([LOOK_EVERY] * (LOOKS_A_REPORT - 1))
        self.assertEqual(self.said(), [])
        self.clock.advance(LOOK_EVERY)
        self.assertEqual(len(self.said()), 1)

    def test_waiting_to_be_ready(self) -> None:
        """It takes connections once nothing is in its way."""
        self.serve(listens=False, in_the_way=["keycloak: away"])
        self.clock.advance(LOOK_EVERY)
        self.assertFalse(self.service.listens)
        self.service.in_the_way.clear()
        self.clock.advance(LOOK_EVERY)
        self.assertTrue(self.service.listens)
        self.assertTrue(self.said()[-1]["listens"])

    def test_orders(self) -> None:
        """Listen whether ready or not, and say so at once; hear of the others; drain."""
        self.serve(listens=False, in_the_way=["keycloak: away"])
        self.link.dataReceived(LISTEN + b"\n")
        self.assertTrue(self.service.listens)
        self.assertEqual([report["listens"] for report in self.said()], [False, True])
        self.assertIsNotNone(self.link.others(), "until it knows, it is not ready")
        self.link.dataReceived(encode_others(["worker 2: a", "worker 2: b"]) + b"\n")
        self.assertEqual(self.link.others(), "worker 2: a\nworker 2: b")
        self.link.dataReceived(encode_others([]) + b"\n")
        self.assertIsNone(self.link.others())
        self.link.dataReceived(DRAIN + b"\n")
        self.assertEqual(self.stops, 1)

    def test_the_supervisor_goes(self) -> None:
        """It drains by itself, and says why; not when the link ends with its own end."""
        self.serve()
        self.link.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((self.stops, self.link.orphaned), (1, True))
        self.setUp()
        self.serve(drained=True)
        self.link.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((self.stops, self.link.orphaned), (0, False))


class First(SynchronousTestCase):
    """The first line, before there is any reactor."""

    def test_in_pieces(self) -> None:
        """However it arrives; what comes behind it is kept."""
        start = Start(1, 2, Said("c", b"a: b" * 50_000, {}), None, 1, True)
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
        ours.sendall(start.encode() + b"\n" + LISTEN)
        self.assertEqual(receive_start(theirs), (start, LISTEN))

    def test_nobody_there(self) -> None:
        """A supervisor that is gone by then is no traceback."""
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        ours.close()
        self.assertRaises(EOFError, receive_start, theirs)
