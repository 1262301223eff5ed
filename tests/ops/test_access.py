"""The access log: what an operator learns of a request, and what nobody may."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from mcp_oauth2_proxy.ops.access import MAX_PATH, QUIET, AccessLog, request_text, shown_path
from mcp_oauth2_proxy.ops.lines import text_line
from mcp_oauth2_proxy.ops.logs import log_observer
from mcp_oauth2_proxy.ops.peers import TrustedProxies


class FinishedRequest:
    """What is left of a request when it is over."""

    method = b"POST"
    uri = b"/mcp?token=s3cret"
    code = 200
    startedAt = 100.0
    sentBodyLength = 27
    requestId = "0123456789abcdef"
    finished = 1

    def __init__(self, **attributes: Any) -> None:
        self.notes: dict[str, object] = {}
        self.headNotes: dict[str, object] = {}
        self.headers = Headers()
        self.address: object = IPv4Address("TCP", "203.0.113.7", 40000)
        self.__dict__.update(attributes)

    @property
    def requestHeaders(self) -> Headers:
        return self.headers

    def getClientAddress(self) -> object:
        return self.address


NOBODY = TrustedProxies()


def line(request: FinishedRequest, trusted: TrustedProxies = NOBODY) -> dict[str, Any] | None:
    """Return the JSON line of ``request``, which took a quarter of a second."""
    stream = StringIO()
    access = AccessLog(lambda: 100.25, trusted=trusted)
    access._log = Logger("mcp_oauth2_proxy.ops.access", observer=log_observer("INFO", "json", stream))
    access(request)
    return json.loads(stream.getvalue()) if stream.getvalue() else None


class OneLine(SynchronousTestCase):
    """One structured line a request."""

    def test_a_relayed_request(self) -> None:
        """Who did what, how it went, and how long it took here and upstream."""
        record = line(
            FinishedRequest(notes={"subject": "alice", "client": "mcp-proxy", "upstream_time": 0.2})
        )
        assert record is not None
        record.pop("ts")
        self.assertEqual(
            record,
            {
                "level": "INFO",
                "message": "request",
                "method": "POST",
                "path": "/mcp",
                "status": 200,
                "bytes": 27,
                "duration_ms": 250.0,
                "upstream_ms": 200.0,
                "address": "203.0.113.7",
                "subject": "alice",
                "client": "mcp-proxy",
                "request_id": "0123456789abcdef",
            },
        )

    def test_behind_a_proxy(self) -> None:
        """The address is the client's own where a trusted proxy tells it, else the peer's."""
        headers = Headers({"X-Forwarded-For": ["192.0.2.44"]})
        for networks, address in (([], "203.0.113.7"), (["203.0.113.0/24"], "192.0.2.44")):
            record = line(FinishedRequest(headers=headers), TrustedProxies(networks))
            assert record is not None
            self.assertEqual(record["address"], address)

    def test_a_refused_request(self) -> None:
        """The reason is there, and nobody's name."""
        record = line(FinishedRequest(code=401, notes={"reason": "token_expired"}))
        assert record is not None
        self.assertEqual((record["status"], record["reason"]), (401, "token_expired"))
        self.assertNotIn("subject", record)
        self.assertNotIn("aborted", record)

    def test_an_aborted_request(self) -> None:
        """An answer that was cut does not look like one that was not."""
        record = line(FinishedRequest(finished=0))
        assert record is not None
        self.assertIs(record["aborted"], True)

    def test_health_checks_are_left_out(self) -> None:
        """A probe every few seconds does not bury the rest."""
        self.assertIsNone(line(FinishedRequest(notes={QUIET: True})))

    def test_addresses(self) -> None:
        """An IPv4 client of a dual-stack socket reads as one; a UNIX socket has no address."""
        for address, expected in (
            (IPv6Address("TCP", "::ffff:203.0.113.7", 1), "203.0.113.7"),
            (IPv6Address("TCP", "2001:db8::1", 1), "2001:db8::1"),
            (object(), "-"),
        ):
            record = line(FinishedRequest(address=address))
            assert record is not None
            self.assertEqual(record["address"], expected)

    def test_the_clock_of_the_site(self) -> None:
        """Without a clock of its own the log reads the one that stamped the request."""

        class Site:
            reactor = Clock()

        Site.reactor.advance(101.0)
        stream = StringIO()
        access = AccessLog()
        access._log = Logger("mcp_oauth2_proxy", observer=log_observer("INFO", "json", stream))
        access(FinishedRequest(site=Site))
        self.assertEqual(json.loads(stream.getvalue())["duration_ms"], 1000.0)


#: What a field may hold that needs quotes, a cut or a mask, and what does not.
WORDS = st.text(max_size=8) | st.sampled_from(
    [
        "alice",
        "/mcp",
        "bearer",
        "basic",
        "a=b",
        "code",
        "token=abc",
        "eyJhbGciOi.eyJzdWIi.c2ln",
        "x" * 1100,
        "",
    ]
)


class AsText(SynchronousTestCase):
    """The line for people, which is written on a shorter way than others."""

    @given(
        st.fixed_dictionaries(
            {},
            optional={
                "subject": WORDS | st.none(),
                "client": WORDS | st.none(),
                "reason": st.just("token_expired"),
                "upstream_time": st.floats(0, 1e6),
            },
        ),
        WORDS.map(lambda word: b"/" + word.encode()),
        st.sampled_from([0, 1]),
    )
    def test_the_short_way_and_the_long_one(
        self, notes: dict[str, object], target: bytes, finished: int
    ) -> None:
        """The line is the same on both, whatever the request was."""
        events: list[Any] = []
        access = AccessLog(lambda: 100.25)
        access._log = Logger("mcp_oauth2_proxy", observer=events.append)
        access(FinishedRequest(notes=notes, uri=target, finished=finished))
        self.assertEqual(text_line(events[0]), text_line({**events[0], "log_text": None}))

    def test_what_is_usual_goes_the_short_way(self) -> None:
        """A relayed request's line is written as it stands here."""
        events: list[Any] = []
        access = AccessLog(lambda: 100.25)
        access._log = Logger("mcp_oauth2_proxy", observer=events.append)
        access(FinishedRequest(notes={"subject": "alice", "client": "cli", "upstream_time": 0.2}))
        self.assertEqual(
            request_text(events[0]),
            "request method=POST path=/mcp status=200 bytes=27 duration_ms=250.0 upstream_ms=200.0 "
            "address=203.0.113.7 subject=alice client=cli request_id=0123456789abcdef",
        )


class Paths(SynchronousTestCase):
    """The path in a line."""

    def test_query_and_fragment_are_left_out(self) -> None:
        """Codes, states and tokens travel in queries."""
        self.assertEqual(shown_path(b"/oauth/callback?code=1&state=2"), "/oauth/callback")
        self.assertEqual(shown_path(b"/a#code=1"), "/a")

    @given(st.binary(max_size=400))
    def test_any_path_is_short_and_printable(self, target: bytes) -> None:
        """A path cannot break or flood the log."""
        shown = shown_path(target)
        self.assertTrue(shown.isprintable())
        self.assertLessEqual(len(shown), MAX_PATH)
