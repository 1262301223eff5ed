"""Peers that vanish without a word: for a network namespace of its own, which test_vanished runs this in.

An address of this machine is taken away. What is sent there goes out on a cable whose other end listens to
nobody: no reset, no error, nothing comes back.
"""

from __future__ import annotations

import subprocess
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from mcp_oauth2_proxy.wire.connection import ClientConnection
from mcp_oauth2_proxy.wire.sockets import tune
from tests.relay.loopback import Loopback, Raw
from tests.support.reactor import global_reactor

STAYING, VANISHING = "10.9.9.1", "10.9.9.9"
#: Seconds in which all that is waited for comes, with times of one or two.
PATIENCE = 30
OPEN_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"9\r\ndata: 1\n\n\r\n"


def ip(*arguments: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *arguments], check=True)


def set_up() -> None:
    """Have the two addresses, and the cable."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "here", "type", "veth", "peer", "name", "there")
    ip("link", "set", "here", "arp", "off")
    ip("addr", "add", f"{STAYING}/24", "dev", "here")
    ip("link", "set", "here", "up")
    ip("link", "set", "there", "up")
    ip("addr", "add", f"{VANISHING}/32", "dev", "lo")


def vanish() -> None:
    """Take the one address away."""
    ip("addr", "del", f"{VANISHING}/32", "dev", "lo")


def towards_upstreams() -> list[Any]:
    """Return the proxy's own connections to upstreams."""
    return [
        transport
        for transport in global_reactor().getReaders()
        if isinstance(getattr(transport, "protocol", None), ClientConnection)
    ]


class Vanishing(TestCase):
    """All three at once, since each of them takes its seconds."""

    timeout = 90

    async def stream(self, loopback: Loopback, address: str) -> tuple[Raw, Raw]:
        """Open a stream from an address; return the client and the upstream."""
        client = await loopback.send(b"GET /mcp", address=address)
        upstream = await loopback.accept()
        await upstream.until(b"\r\n\r\n")
        upstream.write(OPEN_STREAM + EVENT)
        await client.until(EVENT)
        return client, upstream

    async def test_they_are_noticed(self) -> None:
        """A client that listens, one that is sent to, an upstream: whoever was talking to them is told."""
        set_up()
        here = Loopback(hosts=(STAYING, STAYING))
        there = Loopback(hosts=(STAYING, VANISHING))
        for loopback in (here, there):
            self.addCleanup(lambda loopback=loopback: Deferred.fromCoroutine(loopback.stop()))
        _, quiet = await self.stream(here, VANISHING)
        _, busy = await self.stream(here, VANISHING)
        well, _ = await self.stream(here, STAYING)
        reader, _ = await self.stream(there, STAYING)
        ours = [one.transport for loopback in (here, there) for one in loopback.site.connections]
        for transport in (*ours, *towards_upstreams()):
            tune(transport, quiet=1, again=1, vanished=2)
        self.assertEqual(len(ours), 4)
        vanish()
        busy.write(EVENT)
        lost = [one.lost.addTimeout(PATIENCE, global_reactor()) for one in (quiet, busy, reader)]
        await gatherResults(lost, consumeErrors=True)
        self.assertEqual([len(one.site.connections) for one in (here, there)], [1, 0])
        self.assertFalse(well.closed)
        self.assertTrue(reader.received.endswith(EVENT))
