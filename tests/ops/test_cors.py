"""Which pages' scripts may call the proxy."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.ops.cors import ALLOWED_HEADERS, MAX_PARAMETERS, Cors

APP = b"https://app.example.com"


class Policy(SynchronousTestCase):
    """``server.corsOrigins``."""

    def test_any(self) -> None:
        """Every origin, ``null`` too, and without a word about the origin in caches."""
        for origin in (APP, b"null", None):
            answer = dict(Cors(["*"]).answer(origin))
            self.assertEqual(answer[b"Access-Control-Allow-Origin"], b"*")
            self.assertNotIn(b"Vary", answer)

    def test_some(self) -> None:
        """Exactly those that are listed; caches keep them apart."""
        cors = Cors([APP.decode()])
        self.assertEqual(dict(cors.answer(APP))[b"Access-Control-Allow-Origin"], APP)
        for origin in (
            b"https://app.example.com.evil.example",
            b"http://app.example.com",
            APP + b"/",
            b"null",
            None,
        ):
            self.assertEqual(cors.answer(origin), [(b"Vary", b"Origin")], origin)
        self.assertIn((b"Vary", b"Origin"), cors.answer(APP))

    def test_none(self) -> None:
        """An empty list turns it off."""
        self.assertFalse(Cors([]).enabled)
        self.assertEqual(Cors([]).answer(APP), [])

    def test_never_credentials(self) -> None:
        """No answer lets cookies be sent."""
        for cors in (Cors(["*"]), Cors([APP.decode()])):
            names = [name for name, _ in [*cors.answer(APP), *cors.preflight(None)]]
            self.assertNotIn(b"Access-Control-Allow-Credentials", names)

    def test_parameters(self) -> None:
        """``Mcp-Param-*`` is echoed, other names are not, and there is an end to it."""
        asked = b"authorization, Mcp-Param-City, x-evil, mcp-param-, mcp-param-a b, Mcp-Param-City"
        allowed = dict(Cors(["*"]).preflight(asked))[b"Access-Control-Allow-Headers"]
        self.assertEqual(allowed, ALLOWED_HEADERS + b", Mcp-Param-City")
        many = b",".join(b"mcp-param-%d" % number for number in range(5000))
        allowed = dict(Cors(["*"]).preflight(many))[b"Access-Control-Allow-Headers"]
        self.assertEqual(allowed.count(b"mcp-param-"), MAX_PARAMETERS)

    @given(st.binary(max_size=300))
    def test_any_bytes(self, asked: bytes) -> None:
        """Whatever is asked for, the answer is one line of what is allowed."""
        allowed = dict(Cors(["*"]).preflight(asked))[b"Access-Control-Allow-Headers"]
        self.assertTrue(allowed.startswith(ALLOWED_HEADERS))
        self.assertTrue(allowed.decode("ascii").isprintable())
