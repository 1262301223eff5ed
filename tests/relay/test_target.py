"""Where requests go: the client's raw target joined to the upstream's URL."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.relay.target import BadTargetError, UpstreamTarget, split_target

segments = st.text("abcXYZ019-_~!$&'()*+,;=:@", min_size=1, max_size=6)
escapes = st.sampled_from(["%20", "%C3%A9", "%3F", "%00", "%0d%0a", "%41"])
paths = st.lists(st.one_of(segments, escapes, st.just("")), max_size=5).map(
    lambda parts: "/" + "/".join(parts)
)
queries = st.one_of(st.none(), st.text("ab=&%25+?/\\{}|\"'", max_size=12))


def join(upstream: str, target: bytes) -> bytes:
    return UpstreamTarget.from_url(upstream).join(*split_target(target))


class Joining(SynchronousTestCase):
    """The table that Go's ``httputil`` follows (SetURL, singleJoiningSlash)."""

    def test_as_go_does(self) -> None:
        """Paths meet in one slash, queries in ``&``, and nothing is decoded or encoded again."""
        for upstream, target, expected in (
            ("http://h:3000", b"/mcp", b"http://h:3000/mcp"),
            ("http://h:3000", b"/", b"http://h:3000/"),
            ("http://h:3000/", b"/mcp", b"http://h:3000/mcp"),
            ("http://h/base", b"/mcp", b"http://h/base/mcp"),
            ("http://h/base/", b"/mcp", b"http://h/base/mcp"),
            ("http://h/base", b"/", b"http://h/base/"),
            ("http://h/base", b"//mcp", b"http://h/base//mcp"),
            ("http://h/b%20c", b"/a%2Fb", b"http://h/b%20c/a%2Fb"),
            ("http://h?x=1", b"/mcp?y=2", b"http://h/mcp?x=1&y=2"),
            ("http://h?x=1", b"/mcp", b"http://h/mcp?x=1"),
            ("http://h?x=1", b"/mcp?", b"http://h/mcp?x=1"),
            ("http://h", b"/mcp?", b"http://h/mcp?"),
            ("http://h", b"/mcp?a=b?c&d=%26", b"http://h/mcp?a=b?c&d=%26"),
            ("https://h:8443", b"/mcp/", b"https://h:8443/mcp/"),
            ("http://[::1]:3000/x", b"/y", b"http://[::1]:3000/x/y"),
        ):
            self.assertEqual(join(upstream, target), expected, (upstream, target))

    def test_host_is_the_urls(self) -> None:
        """The upstream's Host is what the operator wrote, without credentials."""
        self.assertEqual(UpstreamTarget.from_url("http://u:p@h:3000/x").host, b"h:3000")
        self.assertEqual(UpstreamTarget.from_url("http://[::1]:3000").host, b"[::1]:3000")

    @given(paths, queries)
    def test_the_target_arrives_byte_for_byte(self, path: str, query: str | None) -> None:
        """The upstream sees the very bytes that the client sent, below its own path."""
        target = (path if query is None else f"{path}?{query}").encode()
        self.assertEqual(join("http://h/base", target), b"http://h/base" + target)


class Splitting(SynchronousTestCase):
    """Which request targets are relayed at all."""

    def test_absolute_form(self) -> None:
        """A target in absolute form loses its authority: the upstream is not the client's choice."""
        for target, expected in (
            (b"http://evil.example/mcp?x", (b"/mcp", b"x")),
            (b"HTTPS://evil.example", (b"/", None)),
            (b"http://evil.example?x=1", (b"/", b"x=1")),
        ):
            self.assertEqual(split_target(target), expected)

    def test_dot_segments_are_refused(self) -> None:
        """No spelling of a dot segment gets through: it could climb out of the upstream's path."""
        for target in (
            b"/..",
            b"/.",
            b"/mcp/../admin",
            b"/mcp/./x",
            b"/mcp/..",
            b"/mcp/%2e%2e/admin",
            b"/mcp/.%2E/admin",
            b"/mcp/..%2fadmin",
            b"/mcp%2f..%2fadmin",
            b"/mcp/..;x=1/admin",
            b"/mcp/..%3b/admin",
            b"/mcp/..%5cadmin",
            b"http://h/mcp/../admin",
        ):
            self.assertRaises(BadTargetError, split_target, target)

    def test_dots_that_are_names_pass(self) -> None:
        """Dots within names, and in the query, are nobody's business."""
        for target in (b"/v1.0/mcp", b"/.hidden", b"/a..b", b"/...", b"/x?next=/../y", b"/file.", b"/a%2eb"):
            path, mark, query = target.partition(b"?")
            self.assertEqual(split_target(target), (path, query if mark else None))

    def test_what_is_no_url_is_refused(self) -> None:
        """Controls, blanks, backslashes, fragments and other forms of a target get 400."""
        for target in (
            b"",
            b"*",
            b"example.com:443",
            b"ftp://h/x",
            b"/a b",
            b"/a\\b",
            b"/a\x00",
            b"/a\r\nX: 1",
            b"/a#b",
            b"/a?b#c",
            b"/a?b c",
            b"/\xc3\xa9",
            b'/a"b',
        ):
            self.assertRaises(BadTargetError, split_target, target)

    @given(st.binary(max_size=40))
    def test_any_bytes_have_an_answer(self, target: bytes) -> None:
        """Whatever arrives is either refused or is a clean path that starts with a slash."""
        try:
            path, query = split_target(target)
        except BadTargetError:
            return
        self.assertTrue(path.startswith(b"/"))
        self.assertNotRegex(path + (query or b""), rb"[\x00-\x20\x7f-\xff#]")
        self.assertNotRegex(path, rb"(^|/)\.\.?(/|$)")
