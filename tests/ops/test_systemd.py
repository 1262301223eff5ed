"""What a service manager hears, on a socket like systemd's."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.ops.systemd import STATUS_EVERY, ServiceManager


class Notifications(SynchronousTestCase):
    """sd_notify(3)."""

    def setUp(self) -> None:
        self.clock, self.status = Clock(), "ready"
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = str(Path(directory.name) / "notify")
        self.manager = self.listen(self.path)

    def listen(self, address: str) -> socket.socket:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(address)
        manager.setblocking(False)
        self.addCleanup(manager.close)
        return manager

    def heard(self, manager: socket.socket | None = None) -> list[str]:
        found = []
        while True:
            try:
                found.append((manager or self.manager).recv(4096).decode())
            except BlockingIOError:
                return found

    def from_environment(self, **environ: str) -> ServiceManager:
        environ = {"NOTIFY_SOCKET": self.path, **environ}
        told = ServiceManager.from_environment(environ, 77)
        self.assertEqual(environ, {}, "nothing is left for children")
        return told

    def test_a_life(self) -> None:
        """Ready once, the status when it changes, and that it ends."""
        told = self.from_environment()
        told.ready(self.clock, lambda: self.status)
        told.ready(self.clock, lambda: self.status)
        self.assertEqual(self.heard(), ["READY=1", "STATUS=ready"])
        self.clock.advance(STATUS_EVERY)
        self.assertEqual(self.heard(), [])
        self.status = "store: down\nkeycloak: away"
        self.clock.advance(STATUS_EVERY)
        self.assertEqual(self.heard(), ["STATUS=store: down; keycloak: away"])
        told.stopping()
        told.stopped()
        self.assertEqual(self.heard(), ["STOPPING=1\nSTATUS=draining"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_watchdog(self) -> None:
        """A sign of life in half the time that is wanted, until the end of the drain."""
        told = self.from_environment(WATCHDOG_USEC="3000000", WATCHDOG_PID="77")
        told.ready(self.clock, lambda: self.status)
        self.assertEqual(self.heard().count("WATCHDOG=1"), 1)
        self.clock.advance(1.5)
        self.assertEqual(self.heard(), ["WATCHDOG=1"])
        told.stopping()
        self.clock.advance(1.5)
        self.assertIn("WATCHDOG=1", self.heard())
        told.stopped()
        self.clock.advance(10)
        self.assertEqual(self.heard(), [])

    def test_somebody_elses_watchdog(self) -> None:
        """Is not ours to feed."""
        told = self.from_environment(WATCHDOG_USEC="3000000", WATCHDOG_PID="76")
        told.ready(self.clock, lambda: self.status)
        self.assertNotIn("WATCHDOG=1", self.heard())

    def test_the_abstract_namespace(self) -> None:
        """An address that begins with @ is no file."""
        name = f"mcp-oauth2-proxy-{id(self)}"
        manager = self.listen("\0" + name)
        ServiceManager("@" + name).ready(self.clock, lambda: self.status)
        self.assertIn("READY=1", self.heard(manager))

    def test_nobody(self) -> None:
        """Without a manager, or with one that is gone, nothing happens."""
        for told in (ServiceManager(), ServiceManager(self.path + "-gone", 1.0)):
            told.ready(self.clock, lambda: self.status)
            self.clock.advance(5)
            told.stopping()
            told.stopped()
        ServiceManager().stopped()
