"""A lease in memory: it holds while its holder lives, and no longer."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.facade.errors import OAuthError
from mcp_oauth2_proxy.facade.lease import LEASE, RENEW_EVERY, Lease
from mcp_oauth2_proxy.facade.sealing import Sealer
from mcp_oauth2_proxy.facade.vault import Vault
from tests.facade.world import FragileStore


class SlowStore(FragileStore):
    """A store that can be made to do later what it is asked for."""

    slow: Deferred[None] | None = None

    def _call(self, name: str, key: str, *rest: Any) -> Deferred[Any]:
        later = succeed(None) if self.slow is None else self.slow
        return later.addCallback(lambda _: super(SlowStore, self)._call(name, key, *rest))


class Leases(SynchronousTestCase):
    """Two holders, each with its own way to one store."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = SlowStore(self.clock)
        self.one = self.lease(self.store)
        self.two = self.lease(FragileStore(self.clock, self.store.inner))

    def lease(self, store: FragileStore) -> Lease:
        vault = Vault(store, Sealer([b"key"], self.clock.seconds))
        return Lease(vault, self.clock, "lease:1")

    def taken(self, lease: Lease) -> bool:
        return self.successResultOf(Deferred.fromCoroutine(lease.take()))

    def release(self, lease: Lease) -> None:
        self.successResultOf(Deferred.fromCoroutine(lease.release()))

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)

    def test_one_holder(self) -> None:
        """Who comes second has to wait, for as long as the first lives."""
        self.assertTrue(self.taken(self.one))
        self.wait(10 * LEASE)
        self.assertFalse(self.taken(self.two))
        self.release(self.one)
        self.assertTrue(self.taken(self.two))
        self.release(self.two)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_dead_holder(self) -> None:
        """It is free once the holder has not been heard of for a while, and not before."""
        self.assertTrue(self.taken(self.one))
        self.store.down = True
        self.wait(LEASE - 0.2)
        self.assertFalse(self.taken(self.two))
        self.wait(0.4)
        self.assertTrue(self.taken(self.two))

    def test_a_renewal_that_fails(self) -> None:
        """One failure of the store is survived."""
        self.assertTrue(self.taken(self.one))
        self.wait(2 * RENEW_EVERY - 0.2)
        self.store.down = True
        self.wait(RENEW_EVERY)
        self.store.down = False
        self.wait(LEASE)
        self.assertFalse(self.taken(self.two))

    def test_lapsing(self) -> None:
        """What is let lapse is free after its time, without a word to the store."""
        self.assertTrue(self.taken(self.one))
        asked = len(self.store.keys)
        self.one.lapse()
        self.assertFalse(self.taken(self.two))
        self.wait(LEASE + 0.2)
        self.assertTrue(self.taken(self.two))
        self.assertEqual(len(self.store.keys), asked)

    def test_released_during_a_renewal(self) -> None:
        """A renewal under way does not bring back what is given back."""
        self.assertTrue(self.taken(self.one))
        self.store.slow = slow = Deferred()
        self.wait(RENEW_EVERY + 0.1)
        self.store.slow = None
        released = Deferred.fromCoroutine(self.one.release())
        slow.callback(None)
        self.successResultOf(released)
        self.assertTrue(self.taken(self.two))

    def test_a_claim_that_was_answered_late(self) -> None:
        """Who hears of its lease when that may have run out again does not act on it."""
        self.store.slow = slow = Deferred()
        taken = Deferred.fromCoroutine(self.one.take())
        self.wait(LEASE - 0.2)
        slow.callback(None)
        self.assertFalse(self.successResultOf(taken))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_store_is_down(self) -> None:
        """Nobody gets it, and giving it back is not an error."""
        self.store.down = True
        self.failureResultOf(Deferred.fromCoroutine(self.one.take()), OAuthError)
        self.release(self.one)
