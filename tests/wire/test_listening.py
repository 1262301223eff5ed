"""The sockets that a process listens on."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.listening import (
    CannotListen,
    adopt,
    bind,
    inherited_descriptors,
    name_of,
    open_sockets,
)


class Inherited(SynchronousTestCase):
    """sd_listen_fds(3)."""

    def test_ours(self) -> None:
        """So many from 3 on, with names or without; nobody after us finds them."""
        for more in ({}, {"LISTEN_FDNAMES": "http:https"}):
            environ = {"LISTEN_PID": "77", "LISTEN_FDS": "2", "HOME": "/", **more}
            self.assertEqual(list(inherited_descriptors(environ, 77)), [3, 4])
            self.assertEqual(environ, {"HOME": "/"})

    def test_somebody_elses(self) -> None:
        """Variables that were meant for a parent, or that make no sense, are no sockets."""
        for pid, count in (("76", "1"), ("77", "-1"), ("77", "x"), ("77", ""), ("77", "99999"), ("", "1")):
            environ = {"LISTEN_PID": pid, "LISTEN_FDS": count}
            self.assertEqual(list(inherited_descriptors(environ, 77)), [], (pid, count))
        self.assertEqual(list(inherited_descriptors({}, 77)), [])


class Adopting(SynchronousTestCase):
    """Only what can be listened on."""

    def test_a_socket_that_listens(self) -> None:
        """Is taken as it is, not handed on to children by accident, and never waited for."""
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        found = adopt(listening.detach())
        self.addCleanup(found.close)
        self.assertEqual(name_of(found), f"127.0.0.1 port {port}")
        self.assertFalse(found.get_inheritable())
        self.assertFalse(found.getblocking())

    def test_anything_else(self) -> None:
        """Is refused with its number, and left open."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        local = socket.socket(socket.AF_UNIX)
        local.bind(str(Path(directory.name) / "s"))
        local.listen()
        quiet, datagrams = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        for one in (local, quiet, datagrams):
            self.addCleanup(one.close)
            error = self.assertRaises(CannotListen, adopt, one.fileno())
            self.assertIn(f"{one.fileno()} is not a TCP socket that listens", str(error))
            os.fstat(one.fileno())
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        self.assertIn("is not a socket", str(self.assertRaises(CannotListen, adopt, reading)))


class Opening(SynchronousTestCase):
    """What was handed over, else the address."""

    def test_the_address(self) -> None:
        """Binds, and says what is wrong when it cannot."""
        (bound,) = open_sockets("127.0.0.1:0")
        self.addCleanup(bound.close)
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        error = self.assertRaises(CannotListen, bind, address)
        self.assertTrue(str(error).startswith(f"server.listenAddress: cannot listen on {address}: "))

    def test_what_was_handed_over(self) -> None:
        """All of it, and the address is not looked at."""
        given = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        ports = [one.getsockname()[1] for one in given]
        found = open_sockets("192.0.2.1:1", [one.detach() for one in given])
        for one in found:
            self.addCleanup(one.close)
        self.assertEqual([one.getsockname()[1] for one in found], ports)
