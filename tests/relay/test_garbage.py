"""What is over leaves nothing for the cyclic collector, which looks seldom because of it."""

from __future__ import annotations

import gc

from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.relay.loopback import Loopback, request
from tests.support.reactor import global_reactor

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Connections(TestCase):
    """Connections of either side."""

    timeout = 60

    def setUp(self) -> None:
        self.loopback = Loopback()

    async def tearDown(self) -> None:
        await self.loopback.stop()

    async def test_nothing_is_left(self) -> None:
        """A connection that is over is gone, with the token that it carried: it waits for no collector."""
        await self.come_and_go()
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        await self.come_and_go()
        gc.set_debug(gc.DEBUG_SAVEALL)
        self.addCleanup(gc.garbage.clear)
        self.addCleanup(gc.set_debug, 0)
        gc.collect()
        ours = ("mcp_oauth2_proxy", "httptools")
        left = [type(one).__name__ for one in gc.garbage if type(one).__module__.startswith(ours)]
        self.assertEqual(left, [])

    async def come_and_go(self) -> None:
        """Let a client and an upstream connect, relay three requests, and leave."""
        loopback = self.loopback
        client = await loopback.client()
        client.write(request(b"GET /mcp"))
        upstream = await loopback.accept()
        for number in range(3):
            if number:
                client.write(request(b"GET /mcp"))
            await upstream.until(b"\r\n\r\n")
            upstream.received = b""
            upstream.write(OK)
            await client.until(b"ok")
            client.received = b""
        for end in (client, upstream):
            end.abort()
            await end.lost
        while loopback.site.connections or any(loopback.agent._idle.values()):
            await deferLater(global_reactor(), 0)
        loopback.done.clear()
        loopback.clients.clear()
        loopback.upstreams.clear()
