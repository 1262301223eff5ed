"""What must not grow, and what must be ordinary life, at the started program."""

from __future__ import annotations

import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from twisted.trial.unittest import TestCase

from bench.procfs import memory_bytes
from tests.service.scene import PATIENCE, Scene, connect, read_answer
from tests.support.proxy import Proxy

_UNLIMITED = {"registerPerAddress": "0", "registerTotal": "0"}
REGISTRATION = {"redirect_uris": ["http://127.0.0.1/cb"], "client_name": "A client like any other"}


class Load(TestCase):
    """Many requests, many connections."""

    timeout = 180

    def setUp(self) -> None:
        self.scene = Scene()
        self.addCleanup(self.scene.stop)

    def start(self, **sections: Any) -> Proxy:
        proxy = self.scene.start(**sections)
        self.addCleanup(proxy.stop)
        return proxy

    def register(self, proxy: Proxy, count: int) -> None:
        """Register so many clients over one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE)
        body, headers = json.dumps(REGISTRATION), {"Content-Type": "application/json"}
        for _ in range(count):
            connection.request("POST", "/oauth/register", body, headers)
            answer = connection.getresponse()
            answer.read()
            self.assertEqual(answer.status, 201)
        connection.close()

    def test_ten_thousand_registrations(self) -> None:
        """They are sealed into the clients' own names: memory stays where it was."""
        proxy = self.start(limits=_UNLIMITED, log={"level": "WARN"})
        self.register(proxy, 1000)
        before = memory_bytes(proxy.program.pid)
        self.register(proxy, 10_000)
        self.assertLess(memory_bytes(proxy.program.pid) - before, 2 * 1024 * 1024)

    def test_a_flood(self) -> None:
        """The defaults stop whoever floods, and nobody else feels it, not even at the next address."""
        proxy = self.start(server={"trustedProxies": ["127.0.0.1"]})
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE)

        def register(address: str) -> tuple[int, str | None]:
            headers = {"Content-Type": "application/json", "X-Forwarded-For": f"198.51.100.1, {address}"}
            connection.request("POST", "/oauth/register", json.dumps(REGISTRATION), headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers["Retry-After"]

        begun = time.monotonic()
        flood = [register("192.0.2.1") for _ in range(1000)]
        lasted = time.monotonic() - begun
        stopped = [wait for status, wait in flood if status == 429]
        # Three hundred a minute: at once, and again in each minute that the flood lasts.
        self.assertLessEqual(1000 - len(stopped), 300 * (1 + lasted / 60) + 1)
        self.assertEqual(set(stopped), {"1"})
        self.assertEqual({status for status, _ in flood[:300]}, {201})
        self.assertEqual(register("192.0.2.2")[0], 201)
        connection.close()

    def test_many_connections(self) -> None:
        """From one address: 300 that say nothing, 100 open streams, and a request like any other."""
        proxy = self.start()
        token = self.scene.token()
        request = f"GET /events HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        idle = [connect(proxy.port) for _ in range(300)]
        streams = [connect(proxy.port) for _ in range(100)]

        def listen(stream: socket.socket) -> bytes:
            stream.sendall(request)
            received = b""
            while b"data: one\n\n" not in received:
                piece = stream.recv(65536)
                assert piece, received
                received += piece
            return received

        with ThreadPoolExecutor(20) as pool:
            heads = list(pool.map(listen, streams))
        self.assertEqual({head.split(b"\r\n")[0] for head in heads}, {b"HTTP/1.1 200 OK"})
        for number in (0, 150, 299):
            idle[number].sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            self.assertEqual(read_answer(idle[number])[2], b"ok")
        for one in (*idle, *streams):
            one.close()
