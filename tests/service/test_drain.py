"""SIGTERM: what is under way ends well, and the process ends."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

from twisted.trial.unittest import TestCase

from tests.service.scene import PATIENCE, Scene, connect, exchange

#: A grace that does not end while a test looks at what is done within it.
LONG = {"shutdownGrace": "60s"}


class Drain(TestCase):
    """The started program, stopped while it works."""

    timeout = 90

    def setUp(self) -> None:
        self.scene = Scene()
        self.addCleanup(self.scene.stop)

    def get(self, path: str) -> bytes:
        return (
            f"GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {self.scene.token()}\r\n\r\n".encode()
        )

    def test_a_running_request_finishes(self) -> None:
        """A request that was accepted before SIGTERM gets its whole answer; a new connection is refused."""
        proxy = self.scene.start(server=LONG)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(exchange, proxy.port, self.get("/slow"))
            self.assertTrue(self.scene.entered.wait(PATIENCE))
            proxy.program.send_signal(signal.SIGTERM)
            proxy.program.wait_for("1 requests have", PATIENCE)
            self.assertRaises(OSError, connect, proxy.port)
            self.scene.release.set()
            status, head, body = answer.result(PATIENCE)
        self.assertEqual((status, body), (200, b'{"slow": true}'))
        self.assertIn(b"connection: close", head.lower())
        self.assertEqual(proxy.wait(PATIENCE), 0)

    def test_readiness_while_draining(self) -> None:
        """Who asks on a connection that is still open hears 503 and why."""
        proxy = self.scene.start(server=LONG)
        with ThreadPoolExecutor(1) as pool, connect(proxy.port) as held:
            # Half a request keeps this connection from being idle.
            held.sendall(b"GET /readyz HTTP/1.1\r\nHost: h\r\n")
            answer = pool.submit(exchange, proxy.port, self.get("/slow"))
            self.assertTrue(self.scene.entered.wait(PATIENCE))
            proxy.program.send_signal(signal.SIGTERM)
            proxy.program.wait_for("1 requests have", PATIENCE)
            held.sendall(b"\r\n")
            said = held.recv(65536)
            self.scene.release.set()
            answer.result(PATIENCE)
        self.assertTrue(said.startswith(b"HTTP/1.1 503 "), said)
        self.assertIn(b"draining", said)
        self.assertEqual(proxy.wait(PATIENCE), 0)

    def test_idle_streams_end_cleanly(self) -> None:
        """A quiet event stream ends whole, long before the grace is over: its client comes back."""
        proxy = self.scene.start(server=LONG)
        with connect(proxy.port) as client:
            client.sendall(self.get("/events"))
            self.assertTrue(self.scene.entered.wait(PATIENCE))
            received = b""
            while b"data: one" not in received:
                received += client.recv(65536)
            proxy.program.send_signal(signal.SIGTERM)
            while piece := client.recv(65536):
                received += piece
        self.assertTrue(received.endswith(b"0\r\n\r\n"), received)
        self.assertEqual(proxy.wait(PATIENCE), 0)

    def test_the_grace_ends(self) -> None:
        """What does not finish within ``server.shutdownGrace`` is cut, and cannot be taken for whole."""
        proxy = self.scene.start(server={"shutdownGrace": "200ms"})
        with connect(proxy.port) as client:
            client.sendall(self.get("/slow"))
            self.assertTrue(self.scene.entered.wait(PATIENCE))
            proxy.program.send_signal(signal.SIGTERM)
            try:
                received = client.recv(65536)
            except ConnectionResetError:
                received = b""
        self.assertEqual(received, b"")
        self.assertEqual(proxy.wait(PATIENCE), 0)
        self.assertIn("cutting 1 requests", proxy.output)
