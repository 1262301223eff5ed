"""Deadlines: each on time, all by one timer of the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.deadline import Deadline, Deadlines

#: Whole seconds: how floats add up is not what is looked at.
_SECONDS = st.integers(0, 40)
_WHICH = st.integers(0, 5)


class Told(SynchronousTestCase):
    """What a connection gets from its deadline."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.deadlines = Deadlines(self.clock)
        self.told: list[str] = []

    def deadline(self, name: str, then: Callable[[], Any] = lambda: None) -> Deadline:
        return Deadline(self.deadlines, lambda: (self.told.append(name), then()))  # type: ignore[arg-type]

    def test_one_timer(self) -> None:
        """A thousand connections have one timer, none once they have ended, and nobody is told too late."""
        many = [self.deadline(str(number)) for number in range(1000)]
        for number, one in enumerate(many):
            one.set(2000 - number)
        self.assertEqual([call.getTime() for call in self.clock.getDelayedCalls()], [2001])
        for one in many[:-1]:
            one.stop()
        self.assertLess(len(self.deadlines._entries), 100, "who has ended is not kept until its time comes")
        self.clock.advance(1001)
        self.assertEqual(self.told, ["999"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_woken_for_nothing(self) -> None:
        """Busy connections wake the process once for as long as their deadline is, idle ones not at all."""
        woken: list[float] = []
        wake = self.deadlines._wake
        self.patch(self.deadlines, "_wake", lambda: (woken.append(self.clock.seconds()), wake()))
        one, other = self.deadline("one"), self.deadline("other")
        for _ in range(100):
            for moved in (one, other):
                moved.set(30)
            self.clock.advance(1)
        one.clear()
        other.clear()
        self.clock.pump([1] * 100)
        self.assertEqual(woken, [1030, 1059, 1088, 1117])
        self.assertEqual((self.told, self.clock.getDelayedCalls()), ([], []))

    def test_moved_on_for_ever(self) -> None:
        """A deadline that changes between near and far all the time leaves no heap of what it was."""
        one = self.deadline("one")
        for _ in range(1000):
            one.set(3000)
            one.set(1)
            one.set(3000)
            self.clock.advance(1)
        self.assertLess(len(self.deadlines._entries), 100)

    def test_one_that_fails(self) -> None:
        """An error where a deadline's end is told is logged, and the others are told."""
        self.deadline("bad", lambda: 1 / 0).set(1)
        self.deadline("good").set(1)
        self.clock.advance(1)
        self.assertEqual(self.told, ["bad", "good"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_one_that_ends_another(self) -> None:
        """Where the end of one stops, clears or moves on another that is due too, that one is not told."""
        others = [self.deadline(name) for name in ("stopped", "cleared", "moved")]
        stopped, cleared, moved = others
        self.deadline("first", lambda: (stopped.stop(), cleared.clear(), moved.set(5))).set(1)
        for other in others:
            other.set(1)
        self.clock.advance(1)
        self.assertEqual(self.told, ["first"])
        self.clock.advance(5)
        self.assertEqual(self.told, ["first", "moved"])

    def test_any_order(self) -> None:
        """Whatever is set, cleared and stopped when: each is told once, exactly when it has to be."""
        run_state_machine_as_test(_Game)


class _Game(RuleBasedStateMachine):
    """Deadlines beside the times at which they have to expire."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.clock.advance(1)
        self.deadlines = Deadlines(self.clock)
        self.told: list[tuple[int, float]] = []
        self.expected: list[tuple[int, float]] = []
        self.at: dict[int, float] = {}
        self.all = {number: self.made(number) for number in range(6)}

    def made(self, number: int) -> Deadline:
        return Deadline(self.deadlines, lambda: self.told.append((number, self.clock.seconds())))

    @rule(which=_WHICH, seconds=_SECONDS)
    def sets(self, which: int, seconds: int) -> None:
        self.all[which].set(seconds)
        self.at.pop(which, None)
        if seconds:
            self.at[which] = self.clock.seconds() + seconds

    @rule(which=_WHICH)
    def clears(self, which: int) -> None:
        self.all[which].clear()
        self.at.pop(which, None)

    @rule(which=_WHICH)
    def stops(self, which: int) -> None:
        self.all[which].stop()
        self.at.pop(which, None)
        self.all[which] = self.made(which)

    @rule(seconds=_SECONDS)
    def waits(self, seconds: int) -> None:
        self.clock.pump([1] * seconds)
        due = {which: at for which, at in self.at.items() if at <= self.clock.seconds()}
        self.expected += due.items()
        self.at = {which: at for which, at in self.at.items() if which not in due}
        assert sorted(self.told) == sorted(self.expected)

    @invariant()
    def one_timer(self) -> None:
        calls = self.clock.getDelayedCalls()
        assert len(calls) <= 1
        assert not self.at or calls[0].getTime() <= min(self.at.values())

    def teardown(self) -> None:
        for one in self.all.values():
            one.stop()
        assert not self.clock.getDelayedCalls()
        assert not self.deadlines._entries
