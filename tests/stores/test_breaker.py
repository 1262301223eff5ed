"""The circuit breaker: bounded waits, failing at once while the store is down, and finding back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mcp_oauth2_proxy.stores.breaker import FAILURES, FIRST_RETRY, LAST_RETRY, PING_EVERY, Breaker
from mcp_oauth2_proxy.stores.interfaces import (
    IStore,
    Listener,
    Missed,
    StoreFull,
    StoreUnavailable,
    Unsubscribe,
)
from mcp_oauth2_proxy.stores.memory import MemoryStore
from tests.stores.contract import ClockedStoreCase, StoreContract

WAIT = 2.0


@implementer(IStore)
class Moody:
    """A store that does what a test wants: by its ``mood``: well, silent, or an error."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.given_up = 0
        self.closed = False
        self.mood: Any = "well"

    def _call(self, name: str) -> Deferred[Any]:
        self.calls.append(name)
        if self.mood == "well":
            return succeed(None)
        if self.mood == "silent":
            return Deferred(self._given_up)
        return fail(self.mood)

    def _given_up(self, _: Deferred[Any]) -> None:
        self.given_up += 1

    def put(self, key: str, value: bytes, ttl: float) -> Deferred[None]:
        return self._call("put")

    def add(self, key: str, value: bytes, ttl: float) -> Deferred[bool]:
        return self._call("add")

    def get(self, key: str) -> Deferred[bytes | None]:
        return self._call("get")

    def take(self, key: str) -> Deferred[bytes | None]:
        return self._call("take")

    def ping(self) -> Deferred[None]:
        return self._call("ping")

    def publish(self, channel: str, message: bytes) -> Deferred[None]:
        return self._call("publish")

    def subscribe(
        self, channel: str, listener: Listener, missed: Missed | None = None
    ) -> Deferred[Unsubscribe]:
        return self._call("subscribe")

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)


class Contract(ClockedStoreCase, StoreContract):
    """A breaker before a store that works changes nothing."""

    def make_store(self) -> Breaker:
        return Breaker(MemoryStore(self.clock), self.clock, wait=WAIT)


class BreakerCase(SynchronousTestCase):
    """A breaker before a moody store."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.store = Moody()
        self.breaker = Breaker(self.store, self.clock, wait=WAIT)

    def error(self, call: Deferred[Any]) -> str:
        return str(self.failureResultOf(call, StoreUnavailable).getErrorMessage())

    def break_it(self, reason: str = "no connection") -> None:
        """Let the store fail until the circuit is open."""
        self.store.mood = StoreUnavailable(reason)
        for _ in range(FAILURES):
            self.assertEqual(self.error(self.breaker.get("a")), reason)

    def pass_by(self, seconds: float) -> None:
        """Let time pass, as a reactor would: in small steps."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)


class Waits(BreakerCase):
    """A store that does not answer."""

    def test_every_wait_is_bounded(self) -> None:
        """Nobody waits longer for the store than ``store.timeout``, and the call itself is given up."""
        self.store.mood = "silent"
        calls: list[Callable[[Breaker], Deferred[Any]]] = [
            lambda breaker: breaker.put("a", b"", 1),
            lambda breaker: breaker.add("a", b"", 1),
            lambda breaker: breaker.get("a"),
            lambda breaker: breaker.take("a"),
            lambda breaker: breaker.publish("a", b""),
            lambda breaker: breaker.ping(),
        ]
        for number, call in enumerate(calls):
            waiting = call(Breaker(self.store, self.clock, wait=WAIT))
            self.clock.advance(WAIT - 0.1)
            self.assertNoResult(waiting)
            self.assertEqual(self.store.given_up, number)
            self.clock.advance(0.1)
            self.assertEqual(self.error(waiting), "the store did not answer within 2 s")
        self.assertEqual(self.store.given_up, len(calls))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_subscription_may_take_its_time(self) -> None:
        """A subscription begins when the store is there, however long that takes."""
        self.store.mood = "silent"
        begun = self.breaker.subscribe("a", lambda _: None)
        self.clock.advance(100 * WAIT)
        self.assertNoResult(begun)

    def test_a_client_that_leaves(self) -> None:
        """A request that is given up says nothing about the store."""
        self.store.mood = "silent"
        for _ in range(2 * FAILURES):
            waiting = self.breaker.get("a")
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
        self.store.mood = "well"
        self.assertEqual(self.successResultOf(self.breaker.get("a")), None)


class Circuit(BreakerCase):
    """Open, half open, closed."""

    def test_opens_after_failures_in_a_row(self) -> None:
        """Once it is clear that the store is down it is left alone, and calls fail at once, saying why."""
        self.break_it("no connection")
        asked = len(self.store.calls)
        for _ in range(10):
            self.assertEqual(self.error(self.breaker.take("a")), "the store is down: no connection")
        self.assertEqual(len(self.store.calls), asked)
        self.assertEqual(self.breaker.unready(), "store: no connection")

    def test_single_failures_do_not_open_it(self) -> None:
        """A connection that breaks now and then is no outage."""
        for _ in range(20):
            self.store.mood = StoreUnavailable("broken")
            for _ in range(FAILURES - 1):
                self.error(self.breaker.get("a"))
            self.store.mood = "well"
            self.successResultOf(self.breaker.get("a"))

    def test_closes_when_a_ping_succeeds(self) -> None:
        """A store that is back is used again within seconds, without a request being spent on trying."""
        self.break_it()
        self.store.calls.clear()
        self.pass_by(20)
        self.assertEqual(set(self.store.calls), {"ping"})
        self.assertIn(len(self.store.calls), range(int(20 / LAST_RETRY), int(20 / FIRST_RETRY)))
        self.store.mood = "well"
        self.pass_by(LAST_RETRY + 0.1)
        self.assertEqual(self.breaker.unready(), None)
        self.successResultOf(self.breaker.get("a"))

    def test_pings_that_hang(self) -> None:
        """A store that accepts and says nothing is not asked by more than one ping at a time."""
        self.break_it()
        self.store.mood = "silent"
        self.store.calls.clear()
        self.pass_by(FIRST_RETRY + 0.1)
        self.pass_by(WAIT - 0.3)
        self.assertEqual(self.store.calls, ["ping"])
        self.pass_by(60)
        self.assertGreater(len(self.store.calls), 60 / (WAIT + LAST_RETRY) - 1)
        self.assertEqual(self.breaker.unready(), "store: the store did not answer within 2 s")
        self.store.mood = "well"
        self.pass_by(WAIT + LAST_RETRY + 0.1)
        self.assertEqual(self.breaker.unready(), None)

    def test_full_is_not_down(self) -> None:
        """A store that is full hands out what it has: the circuit stays closed, and the proxy ready."""
        self.breaker.start()
        self.store.mood = StoreFull("full")
        for _ in range(3 * FAILURES):
            self.failureResultOf(self.breaker.put("a", b"", 1), StoreFull)
        self.pass_by(3 * PING_EVERY)
        self.assertEqual(self.breaker.unready(), None)
        self.store.mood = "well"
        self.successResultOf(self.breaker.take("a"))


class Readiness(BreakerCase):
    """What ``/readyz`` hears."""

    def test_before_the_first_answer(self) -> None:
        """A proxy whose store has never answered is not ready, and says why."""
        self.assertEqual(self.breaker.unready(), "store: not asked yet")
        self.store.mood = StoreUnavailable("no connection")
        self.breaker.start()
        self.assertEqual(self.breaker.unready(), "store: no connection")
        self.store.mood = "well"
        self.pass_by(FIRST_RETRY)
        self.assertEqual(self.breaker.unready(), None)

    def test_without_logins(self) -> None:
        """That the store has gone is noticed though nobody logs in, and so is its return."""
        self.breaker.start()
        self.assertEqual(self.breaker.unready(), None)
        self.store.mood = StoreUnavailable("gone")
        self.pass_by(PING_EVERY + FAILURES * FIRST_RETRY)
        self.assertEqual(self.breaker.unready(), "store: gone")
        self.store.mood = "well"
        self.pass_by(LAST_RETRY)
        self.assertEqual(self.breaker.unready(), None)

    def test_no_ping_where_there_is_traffic(self) -> None:
        """A store that answers requests is not asked on top of that."""
        self.breaker.start()
        self.store.calls.clear()
        for _ in range(20):
            self.pass_by(1)
            self.successResultOf(self.breaker.get("a"))
        self.assertNotIn("ping", self.store.calls)
        self.pass_by(PING_EVERY)
        self.assertIn("ping", self.store.calls)

    def test_a_mistake_in_a_store(self) -> None:
        """An error that no store should raise is logged, and the store is looked after all the same."""
        self.store.mood = KeyError("a mistake")
        self.breaker.start()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.store.mood = "well"
        self.pass_by(PING_EVERY)
        self.assertEqual(self.breaker.unready(), None)

    def test_closing(self) -> None:
        """Nothing is left on the clock, whether a ping is under way or not."""
        for mood in ("well", "silent", StoreUnavailable("gone")):
            store = Moody()
            store.mood = mood
            breaker = Breaker(store, self.clock, wait=WAIT)
            breaker.start()
            self.successResultOf(breaker.close())
            self.assertTrue(store.closed)
            self.assertEqual(self.clock.getDelayedCalls(), [])
