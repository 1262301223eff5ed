"""Whose word about other addresses is taken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.ops.peers import TrustedProxies, plain_address


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
