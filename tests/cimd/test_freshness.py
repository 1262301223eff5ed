"""How long a document is used without asking again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.cimd.freshness import DEFAULT, LEAST, MOST, lifetime

DATE = (b"Date", b"Mon, 23 Nov 2026 12:00:00 GMT")
CASES: list[tuple[list[tuple[bytes, bytes]], float]] = [
    ([], DEFAULT),
    ([(b"Cache-Control", b"public")], DEFAULT),
    ([(b"Cache-Control", b"public, max-age=7200")], 7200),
    ([(b"cache-control", b"MAX-AGE=7200")], 7200),
    ([(b"Cache-Control", b"max-age=7200, s-maxage=1800")], 1800),
    ([(b"Cache-Control", b"max-age=7200"), (b"Age", b"3600")], 3600),
    ([(b"Cache-Control", b"max-age=7200"), (b"Age", b"nonsense")], 7200),
    ([(b"Cache-Control", b"public"), (b"Cache-Control", b"max-age=7200")], 7200),
    ([(b"Cache-Control", b"max-age=1")], LEAST),
    ([(b"Cache-Control", b"max-age=99999999")], MOST),
    ([(b"Cache-Control", b"no-store, max-age=7200")], LEAST),
    ([(b"Cache-Control", b"no-cache")], LEAST),
    ([(b"Cache-Control", b"max-age=-5")], DEFAULT),
    ([(b"Expires", b"Mon, 23 Nov 2026 14:00:00 GMT"), DATE], 7200),
    ([(b"Expires", b"Mon, 23 Nov 2026 11:00:00 GMT"), DATE], LEAST),
    ([(b"Expires", b"0"), DATE], DEFAULT),
    ([(b"Expires", b"Mon, 23 Nov 2026 14:00:00 GMT")], DEFAULT),
    ([(b"Cache-Control", b"max-age=600"), (b"Expires", b"Mon, 23 Nov 2026 14:00:00 GMT"), DATE], 600),
]


class Freshness(SynchronousTestCase):
    """RFC 9111, within bounds."""

    def test_cases(self) -> None:
        """What each header comes to."""
        for headers, seconds in CASES:
            self.assertEqual(lifetime(headers), seconds, headers)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([b"Cache-Control", b"Expires", b"Date", b"Age"]), st.binary(max_size=60)
            )
        )
    )
    def test_any_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Whatever a host says, the answer stays within the bounds."""
        self.assertTrue(LEAST <= lifetime(headers) <= MOST)
