"""People who queue."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.browser import Crowd


class Crowds(SynchronousTestCase):
    """Three who wait for half a minute."""

    def setUp(self) -> None:
        self.clock = Clock()
        crowd = Crowd(self.clock, 30)
        self.asked: list[Deferred[str]] = [Deferred() for _ in range(3)]
        self.waiting = [crowd.wait(answer) for answer in self.asked]

    def test_one_after_the_other(self) -> None:
        """As long as one of them is answered the others wait."""
        for answer in self.asked:
            self.clock.advance(29)
            answer.callback("tokens")
        self.assertEqual([self.successResultOf(one) for one in self.waiting], ["tokens"] * 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_is_answered(self) -> None:
        """They give up together, however long the first one was answered ago."""
        self.clock.advance(29)
        self.asked[0].callback("tokens")
        self.clock.advance(29)
        for one in self.waiting[1:]:
            self.assertNoResult(one)
        self.clock.advance(1)
        for one in self.waiting[1:]:
            self.assertIn("for 30 s", self.failureResultOf(one, AssertionError).getErrorMessage())
        self.assertEqual(self.successResultOf(self.waiting[0]), "tokens")
