"""Which URLs are fetched at all."""

from __future__ import annotations

from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.cimd.urls import MAX_URL, is_document_url, read_url
from mcp_oauth2_proxy.config.model import Cimd

POLICY = Cimd()
BAD = {
    "http://app.example/c.json": "is not an https URL",
    "https://app.example": "is not an https URL",
    "https://App.example/c": "lower-case",
    "https://user@app.example/c": "is not an https URL",
    "https://app.example/c#frag": "is not an https URL",
    "https://app.example\\@evil/c": "is not an https URL",
    "https://app.example/a b": "is not an https URL",
    "https://app.example/\r\nHost: x": "is not an https URL",
    "https://[::1]/c": "is not an https URL",
    "https://127.0.0.1/c": "has an address",
    "https://2130706433/c": "has an address",
    "https://0x7f000001/c": "has an address",
    "https://a.0x7f/c": "has an address",
    "https://127.1/c": "has an address",
    "https://app.example/../c": "has a dot segment",
    "https://app.example/a/./c": "has a dot segment",
    "https://app.example/a/%2e%2E/c": "has a dot segment",
    "https://app.example/..": "has a dot segment",
    "https://app.example:8443/c": "has port 8443",
    "https://app.example:0443/c": "is not an https URL",
    "https://app.example./c": "is not an https URL",
    "https://-a.example/c": "is not an https URL",
    "https://" + "a" * MAX_URL + "/c": "is not an https URL",
    "https://" + "a." * 130 + "b/c": "has an address in place",
}


class Urls(SynchronousTestCase):
    """draft-ietf-oauth-client-id-metadata-document section 3, and our policy."""

    def test_good(self) -> None:
        """Scheme, name, perhaps the port, path and query."""
        url = read_url("https://app.example/oauth/client.json?v=1", POLICY)
        self.assertEqual((url.host, url.port, url.target), ("app.example", 443, "/oauth/client.json?v=1"))
        self.assertEqual(read_url("https://app.example:443/c", POLICY).port, 443)

    def test_bad(self) -> None:
        """Each with a word about what is wrong."""
        for text, said in BAD.items():
            error = self.assertRaises(ValueError, read_url, text, POLICY)
            self.assertIn(said, str(error), text)

    def test_policy(self) -> None:
        """Hosts and ports that the operator names."""
        policy = Cimd(allowed_hosts=("claude.ai", "*.example.com"), allowed_ports=(443, 8443))
        for text in ("https://claude.ai/c", "https://a.example.com/c", "https://b.a.example.com:8443/c"):
            read_url(text, policy)
        for text in ("https://example.com/c", "https://evilclaude.ai/c", "https://claude.ai.evil.example/c"):
            self.assertIn("allowedHosts", str(self.assertRaises(ValueError, read_url, text, policy)))

    def test_what_means_to_be_one(self) -> None:
        """Only https URLs; a sealed registration never is."""
        self.assertTrue(is_document_url("https://x"))
        for client_id in ("http://x", "HTTPS://x", "gAAAAABx", "inspector"):
            self.assertFalse(is_document_url(client_id))

    @given(st.from_regex(r"https://[a-zA-Z0-9.\-_@:%\[\]\\]{0,20}[/?#]?[!-~]{0,20}", fullmatch=True))
    def test_parsers_agree(self, text: str) -> None:
        """What is accepted means the same to the standard library's parser."""
        try:
            url = read_url(text, Cimd(allowed_ports=tuple(range(1, 65536))))
        except ValueError:
            return
        split = urlsplit(text)
        self.assertEqual((split.hostname, split.port or 443), (url.host, url.port))
        self.assertIsNone(split.username)
        self.assertEqual(text, f"https://{split.netloc}{url.target}")
