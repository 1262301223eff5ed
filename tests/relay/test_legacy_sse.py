"""The endpoint event under a path prefix, and every other byte left alone."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.relay.legacy_sse import MAX_FIRST_EVENT, EndpointRewriter, PathPrefixes

PREFIXES = PathPrefixes(upstream=b"/base", public=b"/team/mcp")


def through(stream: bytes, prefixes: PathPrefixes = PREFIXES, cuts: tuple[int, ...] = ()) -> bytes:
    """Return what comes out of a stream that arrives in pieces, cut at these places."""
    rewriter = EndpointRewriter(prefixes)
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(places)]
    return b"".join(rewriter.feed(piece) for piece in pieces) + rewriter.flush()


class Prefixes(SynchronousTestCase):
    """From the upstream's paths to the clients'."""

    def test_paths(self) -> None:
        """Below its own prefix a path changes; one that is right already, or elsewhere, does not."""
        for upstream, public, path, expected in (
            (b"", b"/p", b"/messages/?id=1", b"/p/messages/?id=1"),
            (b"/base", b"", b"/base/messages", b"/messages"),
            (b"/base/", b"/p/", b"/base/messages", b"/p/messages"),
            (b"", b"/p", b"/p/messages", b"/p/messages"),
            (b"/base", b"/p", b"/other/messages", b"/other/messages"),
            (b"/base", b"/p", b"/basement/messages", b"/basement/messages"),
        ):
            found = PathPrefixes(upstream=upstream, public=public).public_path(path)
            self.assertEqual(found, expected, (upstream, public, path))

    def test_nothing_to_do(self) -> None:
        """Where both sides agree nothing is looked at."""
        self.assertFalse(PathPrefixes(upstream=b"/a/", public=b"/a").differ)
        self.assertTrue(PREFIXES.differ)


class Streams(SynchronousTestCase):
    """The first event, and what follows."""

    def test_endpoint(self) -> None:
        """In every spelling of lines, and only the first event."""
        for line in (b"\n", b"\r\n", b"\r"):
            event = line.join([b"event: endpoint", b"data: /base/messages/?session_id=1", b"", b""])
            after = line.join([b"event: endpoint", b"data: /base/again", b"", b""])
            expected = event.replace(b"/base/messages", b"/team/mcp/messages") + after
            self.assertEqual(through(event + after), expected)

    def test_other_first_events(self) -> None:
        """A message, a comment, data that only looks like it: all as they came."""
        for stream in (
            b"data: /base/messages\n\n",
            b": hello\n\nevent: endpoint\ndata: /base/messages\n\n",
            b"event: endpoints\ndata: /base/messages\n\n",
            b"event: endpoint\ndata: https://elsewhere/base/messages\n\n",
            b"id: 1\ndata: event: endpoint\ndata: /base/x\n\n",
            b"event: endpoint\ndata: /base/never ends",
            b"",
        ):
            self.assertEqual(through(stream), stream)

    def test_an_endless_first_event(self) -> None:
        """It is not held back for ever."""
        rewriter = EndpointRewriter(PREFIXES)
        stream = b"data: " + b"x" * MAX_FIRST_EVENT
        self.assertEqual(rewriter.feed(stream), stream)
        self.assertEqual(rewriter.feed(b"more"), b"more")

    @given(st.lists(st.integers(0, 200), max_size=20).map(tuple), st.sampled_from([b"\n", b"\r\n", b"\r"]))
    def test_any_pieces(self, cuts: tuple[int, ...], line: bytes) -> None:
        """Wherever the stream is cut, the result is the same."""
        stream = line.join(
            [b"event: endpoint", b"data: /base/m?a=b", b"", b"id: 1", b"data: /base/x", b"", b""]
        )
        self.assertEqual(through(stream, cuts=cuts), stream.replace(b"/base/m", b"/team/mcp/m"))

    @given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10).map(tuple))
    def test_any_bytes(self, stream: bytes, cuts: tuple[int, ...]) -> None:
        """What is no endpoint event passes byte for byte."""
        if b"endpoint" not in stream:
            self.assertEqual(through(stream, cuts=cuts), stream)
