"""The sockets that a process was handed, and which of them are meant."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.inherited import Inherited
from mcp_oauth2_proxy.wire.listening import CannotListen, machine_has_ipv6


class FromEnvironment(SynchronousTestCase):
    """sd_listen_fds(3)."""

    def test_ours(self) -> None:
        """So many from 3 on, with names or without; nobody after us finds them."""
        for names, told in (((), {}), (("http", "admin"), {"LISTEN_FDNAMES": "http:admin"})):
            environ = {"LISTEN_PID": "77", "LISTEN_FDS": "2", "HOME": "/", **told}
            found = Inherited.from_environment(environ, 77)
            self.assertEqual((list(found.descriptors), found.names), ([3, 4], names))
            self.assertEqual(environ, {"HOME": "/"})

    def test_somebody_elses(self) -> None:
        """Variables that were meant for a parent, or that make no sense, are no sockets."""
        for pid, count in (("76", "1"), ("77", "-1"), ("77", "x"), ("77", ""), ("77", "99999"), ("", "1")):
            environ = {"LISTEN_PID": pid, "LISTEN_FDS": count}
            self.assertEqual(list(Inherited.from_environment(environ, 77).descriptors), [], (pid, count))
        self.assertEqual(Inherited.from_environment({}, 77).names, ())

    def test_names_that_are_not_as_many(self) -> None:
        """Are no names: one could stand for another socket."""
        environ = {"LISTEN_PID": "77", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "http"}
        self.assertEqual(Inherited.from_environment(environ, 77).names, ())


class Meant(SynchronousTestCase):
    """What ``server.listenAddress`` names."""

    if not machine_has_ipv6():
        skip = "no IPv6 on this machine"

    def setUp(self) -> None:
        self.sockets = [
            socket.create_server(("127.0.0.1", 0)),
            socket.create_server(("::1", 0), family=socket.AF_INET6),
            socket.socket(type=socket.SOCK_DGRAM),
        ]
        for one in self.sockets:
            self.addCleanup(one.close)
        self.numbers = [one.fileno() for one in self.sockets]

    def meant(self, address: str, *names: str) -> Sequence[int]:
        """Return which of the sockets are meant, by their places; all stay open."""
        found = Inherited(self.numbers, names).meant_by(address)
        for one in self.sockets:
            one.getsockname()
        return [self.numbers.index(number) for number in found]

    def refused(self, address: str, *names: str) -> str:
        return str(self.assertRaises(CannotListen, self.meant, address, *names))

    def test_an_address(self) -> None:
        """What was handed over is listened on, all of it; with nothing the address is bound."""
        self.assertEqual(self.meant("192.0.2.1:1"), [0, 1, 2])
        self.assertEqual(list(Inherited().meant_by(":8080")), [])

    def test_an_index(self) -> None:
        """Is counted from 0, with names and without."""
        self.assertEqual(self.meant("systemd:domain=INET:index=0"), [0])
        self.assertEqual(self.meant("systemd:index=1:domain=INET6", "a", "b", "c"), [1])

    def test_a_name(self) -> None:
        """Is every socket of that name and domain: one unit's sockets share theirs."""
        self.assertEqual(self.meant("systemd:domain=INET:name=a", "a", "a", "b"), [0])
        self.assertEqual(self.meant("systemd:domain=INET6:name=a", "a", "a", "b"), [1])

    def test_what_is_not_there(self) -> None:
        """Is refused with what was handed over."""
        address = "systemd:domain=INET:name=admin"
        said = self.refused(address, "http", "https", "dns")
        self.assertIn(f"server.listenAddress: {address} was not handed over", said)
        self.assertIn("index 0 name http, index 1 name https", said)
        self.assertIn("3 were, index 0 the first, without names", self.refused(address))
        self.assertIn("3 were", self.refused("systemd:domain=INET:index=3"))
        nothing = self.assertRaises(CannotListen, Inherited().meant_by, "systemd:domain=INET:index=0")
        self.assertIn("no socket was; start the .socket unit", str(nothing))

    def test_another_domain(self) -> None:
        """Is refused with what it is, so that the operator can write it."""
        said = self.refused("systemd:domain=INET:index=1")
        self.assertIn("handed over as INET6; expected INET", said)
        self.assertIn("as INET; expected INET6", self.refused("systemd:domain=INET6:name=a", "a", "b", "c"))

    def test_what_cannot_be_listened_on(self) -> None:
        """Is refused, whatever it is called."""
        self.assertIn("not a TCP socket that listens", self.refused("systemd:domain=INET:index=2"))
