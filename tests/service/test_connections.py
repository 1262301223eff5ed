"""One client connection, seen by a client that writes its own bytes."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.service.scene import Scene, connect, read_answer


class Connections(TestCase):
    """Requests to the relay over one socket."""

    timeout = 60

    def setUp(self) -> None:
        self.scene = Scene()
        self.addCleanup(self.scene.stop)
        self.proxy = self.scene.start()
        self.addCleanup(self.proxy.stop)

    def head(self, *lines: str) -> bytes:
        authorization = f"Authorization: Bearer {self.scene.token()}"
        return "\r\n".join(("POST /mcp HTTP/1.1", "Host: h", authorization, *lines, "", "")).encode()

    def test_a_late_body_on_a_closing_connection(self) -> None:
        """``Connection: close`` is about the time after the answer: the body may still be on its way."""
        with connect(self.proxy.port) as client:
            client.sendall(self.head("Connection: close", "Content-Length: 5", "Expect: 100-continue"))
            self.assertEqual(client.recv(65536), b"HTTP/1.1 100 Continue\r\n\r\n")
            client.sendall(b"hello")
            status, head, _ = read_answer(client)
            self.assertEqual(status, 200)
            self.assertIn(b"connection: close", head.lower())
            self.assertEqual(client.recv(65536), b"", "and then it is closed")

    def test_too_many_from_one_address(self) -> None:
        """An address with as many connections as it may have is told so; its others go on."""
        strict = self.scene.start(server={"maxConnectionsPerAddress": 2})
        self.addCleanup(strict.stop)
        with connect(strict.port) as first, connect(strict.port) as second:
            for client in (first, second):
                client.sendall(self.head("Content-Length: 2") + b"{}")
                self.assertEqual(read_answer(client)[0], 200)
            with connect(strict.port) as third:
                status, head, body = read_answer(third)
                self.assertEqual(status, 503)
                self.assertIn(b"retry-after: 10", head.lower())
                self.assertIn(b"temporarily_unavailable", body)
            first.sendall(self.head("Content-Length: 2") + b"{}")
            self.assertEqual(read_answer(first)[0], 200)

    def test_one_after_another(self) -> None:
        """A connection serves request after request, pipelined ones in their order."""
        with connect(self.proxy.port) as client:
            for _ in range(3):
                client.sendall(self.head("Content-Length: 2") + b"{}")
                self.assertEqual(read_answer(client)[0], 200)
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n" * 3)
            received = b""
            while received.count(b"\r\n\r\nok") < 3:
                received += client.recv(65536)
