"""What the demo says: plain words, one line an exchange, nothing that could be used."""

from __future__ import annotations

from io import StringIO
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.demo.exchange import Exchange
from mcp_oauth2_proxy.demo.narration import Narrator, show_url, wants_colour


class _Terminal(StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


class Narration(SynchronousTestCase):
    """The narrator on a stream."""

    def told(self, *exchanges: Exchange, colour: bool = False) -> str:
        stream = StringIO()
        narrator = Narrator(stream, colour)
        for exchange in exchanges:
            narrator.exchange(exchange)
        return stream.getvalue()

    def test_an_exchange_is_one_line_after_its_meaning(self) -> None:
        """The meaning is told once, the exchange every time."""
        exchange = Exchange("client", "POST", "http://h/mcp", 401)
        self.assertEqual(
            self.told(exchange, exchange),
            "\n 1. The MCP client calls the server without a token. The 401 says where to read on.\n"
            "    client   POST  /mcp  ->  401\n"
            "    client   POST  /mcp  ->  401\n",
        )

    def test_an_unknown_exchange_is_shown_without_words(self) -> None:
        """What has no meaning of its own is still seen."""
        self.assertEqual(
            self.told(Exchange("client", "GET", "http://h/else", 404)), "    client   GET   /else  ->  404\n"
        )

    @given(st.dictionaries(st.sampled_from(["code", "state", "client_id", "x"]), st.text(min_size=5)))
    def test_values_are_shortened(self, query: dict[str, str]) -> None:
        """Of a query only known names are shown, of a value at most four characters."""
        shown = show_url(f"http://h/p?{urlencode(query)}")
        for name, value in query.items():
            self.assertEqual(f"{name}={value[:4]}..." in shown, name != "x")
        self.assertLess(len(shown), 60)

    def test_the_url_is_not_in_a_repr(self) -> None:
        """An exchange in a traceback or a log does not give its code away."""
        self.assertNotIn("s3cret", repr(Exchange("browser", "GET", "http://h/cb?code=s3cret", 200)))

    def test_colour_is_for_terminals(self) -> None:
        """Colour goes to a terminal, never to a pipe, and NO_COLOR turns it off."""
        self.assertTrue(wants_colour(_Terminal(), {"TERM": "xterm"}))
        self.assertFalse(wants_colour(_Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}))
        self.assertFalse(wants_colour(_Terminal(), {"TERM": "dumb"}))
        self.assertFalse(wants_colour(StringIO(), {"TERM": "xterm"}))
        self.assertIn("\x1b[", self.told(Exchange("client", "GET", "http://h/", 200), colour=True))
