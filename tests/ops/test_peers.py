"""Whose word about other addresses is taken."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.ops.peers import MAX_HOPS, TrustedProxies, forwarded_address, plain_address


class Peers(SynchronousTestCase):
    """``server.trustedProxies``."""

    def test_nobody_by_default(self) -> None:
        """Without the setting no peer is believed."""
        self.assertNotIn("127.0.0.1", TrustedProxies())

    def test_addresses_and_networks(self) -> None:
        """Single addresses and CIDR networks, of both families, host bits forgiven."""
        trusted = TrustedProxies(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "172.16.5.1/12"])
        for host in ("10.1.2.3", "192.0.2.7", "2001:db8::5", "172.31.0.1"):
            self.assertIn(host, trusted)
        for host in ("11.0.0.1", "192.0.2.8", "2001:db9::1", "", "unix", "::ffff:10.1.2.3"):
            self.assertNotIn(host, trusted)

    def test_mistakes(self) -> None:
        """A text that is no address is an error at start."""
        self.assertRaises(ValueError, TrustedProxies, ["ingress"])

    def test_mapped_addresses(self) -> None:
        """An IPv4 client of a dual-stack socket is an IPv4 client."""
        self.assertEqual(plain_address("::ffff:10.1.2.3"), "10.1.2.3")
        self.assertEqual(plain_address("::ffff:nonsense"), "::ffff:nonsense")
        self.assertEqual(plain_address("::1"), "::1")

    @given(st.ip_addresses())
    def test_an_address_is_its_own_network(self, address: object) -> None:
        """Whatever address is named is believed, and written as it was."""
        self.assertIn(plain_address(str(address)), TrustedProxies([plain_address(str(address))]))


class Forwarded(SynchronousTestCase):
    """The client's address behind trusted proxies at 10.0.0.0/8 and 2001:db8::/32."""

    trusted = TrustedProxies(["10.0.0.0/8", "2001:db8::/32"])

    def address(self, *, peer: str = "10.0.0.1", forwarded: str = "", x_forwarded_for: str = "") -> str:
        return forwarded_address(
            peer,
            forwarded=[forwarded.encode("latin-1")] if forwarded else [],
            x_forwarded_for=[x_forwarded_for.encode("latin-1")] if x_forwarded_for else [],
            trusted=self.trusted,
        )

    def test_x_forwarded_for(self) -> None:
        """Read from its end, past proxies that are trusted, up to the first that is not."""
        for value, address in (
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, 10.0.0.2", "192.0.2.1"),
            ("198.51.100.9, 192.0.2.1, 10.0.0.2, 10.0.0.3", "192.0.2.1"),
            ("10.0.0.9, 10.0.0.2", "10.0.0.9"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("[2001:db9::1]:4711", "2001:db9::1"),
            ("2001:db9::1", "2001:db9::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, unknown", "10.0.0.1"),
            ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("192.0.2.1,", "10.0.0.1"),
            ("", "10.0.0.1"),
        ):
            self.assertEqual(self.address(x_forwarded_for=value), address, value)

    def test_forwarded(self) -> None:
        """RFC 7239, quoted or not, among other parameters."""
        for value, address in (
            ("for=192.0.2.1", "192.0.2.1"),
            ('For="192.0.2.1:4711";proto=https;by=203.0.113.43', "192.0.2.1"),
            ('proto=https; for="[2001:db9::17]:4711"', "2001:db9::17"),
            ("for=198.51.100.9, for=192.0.2.1, for=10.0.0.2", "192.0.2.1"),
            ('host="a,b";for=192.0.2.1', "192.0.2.1"),
            ("for=_hidden", "10.0.0.1"),
            ("for=unknown, for=10.0.0.2", "10.0.0.2"),
            ("proto=https", "10.0.0.1"),
            ('for="192.0.2.1', "10.0.0.1"),
            ("xfor=192.0.2.1", "10.0.0.1"),
        ):
            self.assertEqual(self.address(forwarded=value), address, value)

    def test_both(self) -> None:
        """Agreeing they are believed; a proxy that sets one hands on what a client wrote into the other."""
        both = self.address(forwarded="for=192.0.2.1", x_forwarded_for="192.0.2.1")
        self.assertEqual(both, "192.0.2.1")
        spoofed = self.address(forwarded="for=203.0.113.66", x_forwarded_for="192.0.2.1")
        self.assertEqual(spoofed, "10.0.0.1")

    def test_several_lines(self) -> None:
        """Header lines of one name are one list."""
        found = forwarded_address(
            "10.0.0.1", forwarded=(), x_forwarded_for=[b"192.0.2.1", b"10.0.0.2"], trusted=self.trusted
        )
        self.assertEqual(found, "192.0.2.1")

    def test_endless_chains(self) -> None:
        """A chain of trusted hops without end is walked so far and no further."""
        chain = ", ".join(["192.0.2.1"] + ["10.0.0.2"] * (MAX_HOPS * 100))
        self.assertEqual(self.address(x_forwarded_for=chain), "10.0.0.2")
        self.assertEqual(self.address(forwarded=",".join(["for=10.0.0.2"] * 5000)), "10.0.0.2")

    @given(st.binary(max_size=200), st.binary(max_size=200))
    def test_any_bytes(self, one: bytes, other: bytes) -> None:
        """Whatever the headers say, the answer is an address."""
        found = forwarded_address("10.0.0.1", forwarded=[one], x_forwarded_for=[other], trusted=self.trusted)
        self.assertEqual(plain_address(str(ip_address(found))), found)
