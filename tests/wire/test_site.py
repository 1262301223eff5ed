"""What all connections share."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.site import request_ids


class RequestIds(SynchronousTestCase):
    """The references that log and error pages share."""

    def test_each_its_own(self) -> None:
        """Sixteen digits, never twice, and the system is asked now and then only."""
        asked: list[int] = []

        def random(count: int) -> bytes:
            asked.append(count)
            return os.urandom(count)

        one = request_ids(random)
        ids = [one() for _ in range(1000)]
        self.assertEqual(len(set(ids)), 1000)
        for text in ids:
            self.assertRegex(text, r"^[0-9a-f]{16}$")
        self.assertEqual(sum(asked), 8 * 1024)
        self.assertEqual(len(asked), 4)
