"""What hypothesis may draw in the relay's game.

Nothing of it depends on the world, which is not the same each time on a real machine.
"""

from __future__ import annotations

from hypothesis import strategies as st

SIZES = st.sampled_from([0, 1, 10, 300, 1500, 5000])
PIECES = st.one_of(st.integers(1, 40), st.integers(41, 1500), st.just(100_000))
CLIENTS = st.integers(0, 1)
#: Which of the connections that fit, the newest being the first.
UPSTREAMS = st.integers(0, 3)
Asked = tuple[bytes, str, int, str]
QUESTIONS = st.tuples(
    st.sampled_from([b"POST", b"POST", b"GET", b"GET", b"HEAD", b"DELETE"]),
    st.sampled_from(["length", "length", "chunked", "none"]),
    SIZES,
    st.sampled_from(["", "", "", "", "close", "old", "expect", "stranger"]),
)
SELDOM = st.integers(0, 9).map(lambda number: number == 0)
