"""What is remembered of header names."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.names import MAX_NAME, MAX_NAMES, by_name


class Names(SynchronousTestCase):
    """One judgement, asked often."""

    @given(st.lists(st.binary(max_size=2 * MAX_NAME), max_size=20))
    def test_the_same_answer(self, names: list[bytes]) -> None:
        """Remembered or not, a name is judged as it always is."""
        lowered = by_name(bytes.lower)
        for name in [*names, *names]:
            self.assertEqual(lowered(name), name.lower())

    def test_asked_once(self) -> None:
        """Of a name that real ones are like."""
        asked: list[bytes] = []

        def judge(name: bytes) -> bool:
            asked.append(name)
            return True

        judged = by_name(judge)
        for _ in range(3):
            judged(b"Content-Type")
        self.assertEqual(asked, [b"Content-Type"])

    def test_bounded(self) -> None:
        """Who invents names, of any length, does not fill the memory."""
        judged = by_name(bytes.lower)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for number in range(3 * MAX_NAMES):
            judged(b"%d" % number)
            judged(b"%d" % number * 10_000)
        held, _ = tracemalloc.get_traced_memory()
        self.assertLess(held, MAX_NAMES * 500)
