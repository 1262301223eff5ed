"""The memory store: the contract, its bounds, and a model that it must agree with."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.model import Store
from mcp_oauth2_proxy.stores.interfaces import StoreUnavailable
from mcp_oauth2_proxy.stores.memory import ENTRY_OVERHEAD, MemoryStore
from mcp_oauth2_proxy.stores.open import open_store
from tests.stores.contract import ClockedStoreCase, StoreContract


class Contract(ClockedStoreCase, StoreContract):
    """The memory store keeps every store's promises."""

    def make_store(self) -> MemoryStore:
        return MemoryStore(self.clock)

    def make_full(self) -> MemoryStore:
        store = MemoryStore(self.clock, max_bytes=ENTRY_OVERHEAD + len("code:kept") + 100)
        self.successResultOf(store.put("code:kept", b"k" * 100, 60))
        return store


class Bounds(SynchronousTestCase):
    """The store's memory has an end, and gives room back."""

    def setUp(self) -> None:
        self.clock = Clock()

    def put(self, store: MemoryStore, key: str, value: bytes, ttl: float = 60) -> None:
        self.successResultOf(store.put(key, value, ttl))

    def test_expired_values_make_room(self) -> None:
        """After a flood of abandoned logins has expired, new ones work again."""
        store = MemoryStore(self.clock, max_bytes=10 * (ENTRY_OVERHEAD + 2))
        for number in range(10):
            self.put(store, str(number), b"v")
        self.failureResultOf(store.put("x", b"v", 60), StoreUnavailable)
        self.clock.advance(60)
        self.put(store, "x", b"v")
        self.assertEqual(len(store), 1)

    def test_refused_replacement_keeps_the_old_value(self) -> None:
        """A value that is too large does not destroy what it was to replace."""
        store = MemoryStore(self.clock, max_bytes=ENTRY_OVERHEAD + 10)
        self.put(store, "k", b"old")
        failure = self.failureResultOf(store.put("k", b"n" * 100, 60), StoreUnavailable)
        self.assertIn("full: 1 entries", failure.getErrorMessage())
        self.assertEqual(self.successResultOf(store.get("k")), b"old")
        self.put(store, "k", b"new value")
        self.assertEqual(self.successResultOf(store.get("k")), b"new value")

    def test_no_timers(self) -> None:
        """A hundred thousand logins leave no timer behind: values expire when the store is used."""
        store = MemoryStore(self.clock)
        for number in range(100):
            self.put(store, str(number), b"v", ttl=number)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_expiry_list_does_not_outgrow_the_values(self) -> None:
        """Codes that are put and taken at once all day leave nothing behind."""
        store = MemoryStore(self.clock)
        for number in range(5000):
            self.put(store, f"code:{number}", b"v", ttl=600)
            self.assertEqual(self.successResultOf(store.take(f"code:{number}")), b"v")
        self.assertLess(len(store._expiries), 1100)
        self.put(store, "code:last", b"v", ttl=600)
        self.clock.advance(600)
        self.assertEqual(len(store), 0)

    def test_values_do_not_show(self) -> None:
        """A store's repr in a traceback shows nothing that it holds."""
        store = MemoryStore(self.clock)
        self.put(store, "code:abc", b"sealed")
        self.assertNotIn("abc", repr(store))
        self.assertNotIn("sealed", repr(store))


class Opening(SynchronousTestCase):
    """From ``store.url`` to a store."""

    def test_memory(self) -> None:
        """The default is the memory store."""
        self.assertIsInstance(open_store(Store(), Clock())._store, MemoryStore)


KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.binary(max_size=3)
TTLS = st.sampled_from([1, 5, 60])


def result_of(deferred: Deferred[Any]) -> Any:
    """Return what a memory store answers at once."""
    results: list[Any] = []
    deferred.addCallback(results.append)
    (result,) = results
    return result


class AgainstAModel(RuleBasedStateMachine):
    """Any sequence of operations and waits, beside a dictionary that is filtered by time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = MemoryStore(self.clock)
        self.model: dict[str, tuple[bytes, float]] = {}

    def alive(self, key: str) -> bytes | None:
        value, expiry = self.model.get(key, (b"", 0.0))
        return value if expiry > self.clock.seconds() else None

    @rule(seconds=st.sampled_from([0.5, 1, 4, 5, 60]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def put(self, key: str, value: bytes, ttl: int) -> None:
        assert result_of(self.store.put(key, value, ttl)) is None
        self.model[key] = (value, self.clock.seconds() + ttl)

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def add(self, key: str, value: bytes, ttl: int) -> None:
        free = self.alive(key) is None
        assert result_of(self.store.add(key, value, ttl)) is free
        if free:
            self.model[key] = (value, self.clock.seconds() + ttl)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        assert result_of(self.store.get(key)) == self.alive(key)

    @rule(key=KEYS)
    def take(self, key: str) -> None:
        assert result_of(self.store.take(key)) == self.alive(key)
        self.model.pop(key, None)

    @invariant()
    def size(self) -> None:
        assert len(self.store) == sum(self.alive(key) is not None for key in self.model)
        expected = sum(
            len(key) + len(value) + ENTRY_OVERHEAD
            for key in self.model
            if (value := self.alive(key)) is not None
        )
        assert self.store._bytes == expected


class Model(SynchronousTestCase):
    """The store and its model never disagree."""

    def test_any_sequence(self) -> None:
        """Whatever is put, claimed, read, taken and waited for, in any order, answers as the model does."""
        run_state_machine_as_test(AgainstAModel, settings=settings(max_examples=60, stateful_step_count=30))
