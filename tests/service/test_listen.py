"""Where ``server.listenAddress`` listens."""

from __future__ import annotations

import resource
import socket

from twisted.trial.unittest import SynchronousTestCase, TestCase

from mcp_oauth2_proxy.service import allow_many_connections
from mcp_oauth2_proxy.wire.listening import listen_on, machine_has_ipv6
from tests.service.scene import PATIENCE, Scene, connect, exchange
from tests.support.program import free_port
from tests.support.proxy import Proxy

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


class Descriptors(SynchronousTestCase):
    """How many connections fit."""

    def test_the_soft_limit_is_raised(self) -> None:
        """The proxy takes what the operating system allows, whatever the shell's default."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        allow_many_connections()
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (before[1], before[1]))


class ListenAddress(SynchronousTestCase):
    """From the setting to an interface and a port."""

    def test_every_interface(self) -> None:
        """``:8080`` is every interface, IPv6 included where the machine has it."""
        self.assertEqual(listen_on(":8080", has_ipv6=True), ("::", 8080))
        self.assertEqual(listen_on(":8080", has_ipv6=False), ("0.0.0.0", 8080))

    def test_one_interface(self) -> None:
        """An address is taken as it is, without its brackets."""
        self.assertEqual(listen_on("127.0.0.1:80", has_ipv6=True), ("127.0.0.1", 80))
        self.assertEqual(listen_on("[::1]:81", has_ipv6=True), ("::1", 81))


class Listening(TestCase):
    """The started program and its port."""

    timeout = 60

    def setUp(self) -> None:
        self.scene = Scene()
        self.addCleanup(self.scene.stop)

    def test_the_first_clients_wait_for_the_realm(self) -> None:
        """Nobody is connected before the realm was looked for: the first request is served already."""
        self.scene.realm_release.clear()
        proxy = self.scene.start(wait=False)
        self.addCleanup(proxy.stop)
        self.assertTrue(self.scene.realm_asked.wait(PATIENCE))
        self.assertRaises(ConnectionRefusedError, connect, proxy.port)
        self.scene.realm_release.set()
        proxy.program.wait_for("listening on", PATIENCE)
        token = f"Authorization: Bearer {self.scene.token()}\r\n"
        request = f"GET /mcp HTTP/1.1\r\nHost: h\r\n{token}\r\n"
        self.assertEqual(exchange(proxy.port, request.encode())[0], 200)

    def test_a_silent_realm(self) -> None:
        """A realm that says nothing does not keep the proxy from saying that it is alive."""
        self.scene.realm_release.clear()
        proxy = self.scene.start(wait=False)
        self.addCleanup(proxy.stop)
        self.addCleanup(self.scene.realm_release.set)
        proxy.program.wait_for("listening on", PATIENCE)
        self.assertEqual(exchange(proxy.port, HEALTH)[::2], (200, b"ok"))

    def test_a_taken_port_is_told_at_once(self) -> None:
        """Whoever starts a second one on the same port hears so without waiting for the realm."""
        first = self.scene.start()
        self.addCleanup(first.stop)
        self.scene.realm_release.clear()
        second = Proxy(self.scene.configuration(), port=first.port)
        self.assertEqual(second.wait(PATIENCE), 2)
        self.assertIn("cannot listen on", second.output)

    def test_both_families(self) -> None:
        """With ``:PORT`` the same port answers over IPv4 and, where there is IPv6, over IPv6."""
        port = free_port()
        proxy = self.scene.start(wait=False, server={"listenAddress": f":{port}"})
        self.addCleanup(proxy.stop)
        proxy.program.wait_for("listening on", 20)
        self.assertEqual(exchange(port, HEALTH)[::2], (200, b"ok"))
        if machine_has_ipv6():
            self.assertEqual(exchange(port, HEALTH, "::1")[::2], (200, b"ok"))

    def test_a_taken_port(self) -> None:
        """A port that is in use ends the start with one readable line and exit code 2."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            proxy = self.scene.start(wait=False, server={"listenAddress": address})
            self.assertEqual(proxy.wait(20), 2)
        self.assertIn(f"cannot listen on {address}", proxy.output)
        self.assertNotIn("Traceback", proxy.output)
