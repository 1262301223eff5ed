"""Event streams of the started program, whose tokens run out."""

from __future__ import annotations

import time

from twisted.trial.unittest import TestCase

from tests.service.scene import PATIENCE, Scene, connect


class Streams(TestCase):
    """A proxy that gives streams no grace."""

    timeout = 90

    def test_a_stream_ends_with_its_token(self) -> None:
        """A token of two seconds buys a stream of about two seconds: it ends with its last chunk."""
        scene = Scene()
        self.addCleanup(scene.stop)
        proxy = scene.start(gate={"streamGrace": "0s"})
        self.addCleanup(proxy.stop)
        token = scene.token(exp=int(time.time()) + 2)
        request = f"GET /events HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n"
        received = b""
        with connect(proxy.port) as client:
            client.sendall(request.encode())
            while not received.endswith(b"\r\n0\r\n\r\n") and (piece := client.recv(65536)):
                received += piece
        self.assertTrue(received.startswith(b"HTTP/1.1 200 "), received)
        self.assertIn(b"data: one\n\n", received)
        self.assertTrue(received.endswith(b"\r\n0\r\n\r\n"), received)
        proxy.program.wait_for("stream_token_expired", PATIENCE)
