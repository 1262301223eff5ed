"""No fetch is led into the operator's network."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.cimd.addresses import may_connect, networks

PUBLIC = ["8.8.8.8", "1.1.1.1", "160.79.104.10", "2606:4700:4700::1111", "2a00:1450:4001:800::200e"]
#: One of each kind that the issue of a request must never reach, and its neighbours at both ends.
INWARDS = [
    *("127.0.0.1", "127.255.255.254", "::1", "0.0.0.0", "0.1.2.3", "::"),
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fdff::1"),
    *("169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0"),
    *("100.64.0.1", "100.127.255.255"),
    *("224.0.0.1", "239.1.1.1", "ff02::1", "255.255.255.255", "240.0.0.1"),
    *("192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "::7f00:1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "64:ff9b::169.254.169.254"),
    *("2002:7f00:1::", "2002:a00:1::1", "2001:0:1::1", "fec0::1", "100::1", "5f00::1"),
    *("", "localhost", "127.1", "0x7f000001", "2130706433", "1.2.3.4.5", "[::1]", "8.8.8.8 "),
]


class Addresses(SynchronousTestCase):
    """Public addresses only, unless the operator names a network."""

    def test_public(self) -> None:
        """Ordinary addresses of the Internet, also as a translator's and a mapped one."""
        for host in [*PUBLIC, "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]:
            self.assertTrue(may_connect(host, ()), host)

    def test_inwards(self) -> None:
        """Everything else, in every spelling."""
        for host in INWARDS:
            self.assertFalse(may_connect(host, ()), host)

    def test_allowed_networks(self) -> None:
        """What the operator names, and nothing beside it; mapped spellings mean the same address."""
        allowed = networks(["10.1.0.0/16", "fd00:1::/32"])
        for host in ("10.1.2.3", "::ffff:10.1.2.3", "fd00:1::5", *PUBLIC):
            self.assertTrue(may_connect(host, allowed), host)
        for host in ("10.2.0.1", "fd00:2::5", "127.0.0.1", "::1"):
            self.assertFalse(may_connect(host, allowed), host)

    @given(st.ip_addresses())
    def test_never_what_python_calls_private(self, address: IPv4Address | IPv6Address) -> None:
        """The standard library's own view of what is not global is refused here as well."""
        if may_connect(str(address), ()):
            plain = getattr(address, "ipv4_mapped", None) or address
            in_nat64 = isinstance(plain, IPv6Address) and plain in ip_network("64:ff9b::/96")
            self.assertTrue(plain.is_global or in_nat64, address)
            self.assertFalse(plain.is_multicast or plain.is_loopback or plain.is_link_local, address)

    @given(st.ip_addresses(v=4))
    def test_spellings_agree(self, address: IPv4Address) -> None:
        """An IPv4 address is judged alike however IPv6 carries it."""
        plain = may_connect(str(address), ())
        self.assertEqual(may_connect(f"::ffff:{address}", ()), plain)
        translated = IPv6Address(int(IPv6Address("64:ff9b::")) + int(address))
        self.assertEqual(may_connect(str(translated), ()), plain)

    @given(st.text(max_size=40))
    def test_any_text(self, text: str) -> None:
        """No text makes it fail."""
        self.assertIn(may_connect(text, ()), (True, False))
