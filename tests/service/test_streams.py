"""Event streams of the composed service, whose tokens run out."""

from __future__ import annotations

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase

from tests.relay.loopback import Raw
from tests.service.scene import Scene
from tests.support.reactor import LaterReactor, global_reactor
from tests.support.service import start_service


class Streams(TestCase):
    """A proxy that gives streams no grace; it runs in this process, so that a token can run out at will."""

    timeout = 90

    async def test_a_stream_ends_with_its_token(self) -> None:
        """It lasts as long as its token, and then ends with its last chunk; the log says why."""
        scene = Scene()
        self.addCleanup(scene.stop)
        reactor = LaterReactor()
        config = await start_service(self, reactor, scene.configuration(gate={"streamGrace": "0s"}))
        host, _, port = config.server.listen_address.partition(":")
        client: Raw = await connectProtocol(TCP4ClientEndpoint(global_reactor(), host, int(port)), Raw())
        token = scene.token()
        client.write(f"GET /events HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        received = await client.until(b"data: one\n\n\r\n")
        self.assertTrue(received.startswith(b"HTTP/1.1 200 "), received)
        self.assertNotIn(b"\r\n0\r\n\r\n", received)
        with capturedLogs() as events:
            reactor.pass_time(3601)
            await client.until(b"\r\n0\r\n\r\n")
        self.assertIn("stream_token_expired", [event.get("reason") for event in events])
        client.abort()
        await client.lost
