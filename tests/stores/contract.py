"""What every store promises: the suite that each implementation passes, whatever is behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mcp_oauth2_proxy.stores.interfaces import IStore, StoreUnavailable
from tests.support.reactor import global_reactor

#: Seconds that any single wait may take before the test fails.
PATIENCE = 20
#: Seconds that pass for a store between two looks at what it has done.
LOOK = 0.05


class StoreContract:
    """Mix in after a ``TestCase`` whose :meth:`make_store` returns an empty store.

    ``advance`` lets time pass for it. Where the store can be filled up, ``make_full`` returns a store
    that has room for the key ``code:kept`` alone and has it already. Where several processes can share
    the store, ``make_other`` returns what another process would have.
    """

    assertEqual: Callable[..., Any]
    assertTrue: Callable[..., Any]
    assertFailure: Callable[..., Any]
    flushLoggedErrors: Callable[..., Any]

    def make_store(self) -> Any:
        """Return an empty store."""
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        raise NotImplementedError

    def make_full(self) -> Any:
        """Return a store that holds ``code:kept`` and has no room left; ``None`` where it has no bound."""
        return None

    def make_other(self, store: Any) -> Any:
        """Return a store of another process in the same place as ``store``, or ``store`` itself."""
        return store

    async def eventually(self, condition: Callable[[], bool], what: str) -> None:
        """Return once ``condition()`` holds; fails after :data:`PATIENCE` seconds, naming ``what``."""
        reactor = global_reactor()
        deadline = reactor.seconds() + PATIENCE
        while not condition():
            if reactor.seconds() > deadline:
                raise AssertionError(f"{what}: not within {PATIENCE} s")
            self.advance(LOOK)
            await deferLater(reactor, 0.01)

    def test_provides_the_interface(self) -> None:
        """Every store can stand in for every other."""
        self.assertTrue(verifyObject(IStore, self.make_store()))

    async def test_value_is_remembered(self) -> None:
        """What was put is there, as often as it is asked for, byte for byte."""
        store = self.make_store()
        value = bytes(range(256))
        await store.put("code:a", value, 60)
        self.assertEqual(await store.get("code:a"), value)
        self.assertEqual(await store.get("code:a"), value)

    async def test_large_value(self) -> None:
        """The largest that is put anywhere, a copy of a client's metadata document, comes back whole."""
        store = self.make_store()
        value = bytes(range(256)) * 128
        await store.put("copy:1", value, 60)
        self.assertEqual(await store.get("copy:1"), value)

    async def test_unknown_key(self) -> None:
        """Nothing is there that was not put."""
        store = self.make_store()
        self.assertEqual(await store.get("code:a"), None)
        self.assertEqual(await store.take("code:a"), None)

    async def test_empty_value(self) -> None:
        """An empty value is a value, not an absent one."""
        store = self.make_store()
        await store.put("mark:a", b"", 60)
        self.assertEqual(await store.get("mark:a"), b"")
        self.assertEqual(await store.take("mark:a"), b"")

    async def test_purposes_do_not_meet(self) -> None:
        """A state is no code, even under the same name."""
        store = self.make_store()
        await store.put("code:a", b"1", 60)
        await store.put("state:a", b"2", 60)
        self.assertEqual(await store.take("code:a"), b"1")
        self.assertEqual(await store.get("state:a"), b"2")

    async def test_put_replaces(self) -> None:
        """A second put wins, with its own time to live."""
        store = self.make_store()
        await store.put("code:a", b"1", 10)
        await store.put("code:a", b"2", 60)
        self.advance(30)
        self.assertEqual(await store.get("code:a"), b"2")

    async def test_replaced_value_may_live_shorter(self) -> None:
        """The first time to live does not prolong the second."""
        store = self.make_store()
        await store.put("code:a", b"1", 60)
        await store.put("code:a", b"2", 10)
        self.advance(30)
        self.assertEqual(await store.get("code:a"), None)

    async def test_value_expires(self) -> None:
        """A code that nobody fetched in time is gone, for get, take and add alike."""
        store = self.make_store()
        for key in ("code:a", "code:b", "code:c"):
            await store.put(key, b"1", 10)
        self.advance(9)
        self.assertEqual(await store.get("code:a"), b"1")
        self.advance(1)
        self.assertEqual(await store.get("code:a"), None)
        self.assertEqual(await store.take("code:b"), None)
        self.assertEqual(await store.add("code:c", b"2", 10), True)

    async def test_take_hands_out_once(self) -> None:
        """An authorization code works once."""
        store = self.make_store()
        await store.put("code:a", b"1", 60)
        self.assertEqual(await store.take("code:a"), b"1")
        self.assertEqual(await store.take("code:a"), None)
        self.assertEqual(await store.get("code:a"), None)

    async def test_concurrent_takers(self) -> None:
        """Of ten requests with one code exactly one succeeds."""
        store = self.make_store()
        await store.put("code:a", b"1", 60)
        taken = await gatherResults([store.take("code:a") for _ in range(10)])
        self.assertEqual(sorted(value or b"" for value in taken), [b""] * 9 + [b"1"])

    async def test_add_only_where_nothing_is(self) -> None:
        """The second to claim something hears that it is claimed, and changes nothing."""
        store = self.make_store()
        self.assertEqual(await store.add("refresh:a", b"1", 60), True)
        self.assertEqual(await store.add("refresh:a", b"2", 600), False)
        self.assertEqual(await store.get("refresh:a"), b"1")
        self.advance(60)
        self.assertEqual(await store.get("refresh:a"), None)

    async def test_concurrent_claims(self) -> None:
        """Of ten refreshes with one token exactly one goes to Keycloak."""
        store = self.make_store()
        claimed = await gatherResults([store.add("refresh:a", b"%d" % n, 60) for n in range(10)])
        self.assertEqual(sorted(claimed), [False] * 9 + [True])

    async def test_add_after_take(self) -> None:
        """What was taken may be claimed again."""
        store = self.make_store()
        await store.put("code:a", b"1", 60)
        await store.take("code:a")
        self.assertEqual(await store.add("code:a", b"2", 10), True)
        self.advance(10)
        self.assertEqual(await store.get("code:a"), None)

    async def test_taken_key_used_again_keeps_its_own_time(self) -> None:
        """The expiry of a value that was taken does not hit its successor."""
        store = self.make_store()
        await store.put("code:a", b"1", 10)
        await store.take("code:a")
        await store.put("code:a", b"2", 60)
        self.advance(30)
        self.assertEqual(await store.get("code:a"), b"2")

    async def test_ping(self) -> None:
        """A store that works says so to readiness."""
        self.assertEqual(await self.make_store().ping(), None)

    async def test_full(self) -> None:
        """A full store refuses what is new and keeps what others wait for."""
        store = self.make_full()
        if store is None:
            return
        await self.assertFailure(store.put("code:new", b"1", 60), StoreUnavailable)
        await self.assertFailure(store.add("code:new", b"1", 60), StoreUnavailable)
        self.assertEqual(await store.get("code:new"), None)
        self.assertEqual(await store.add("code:kept", b"1", 60), False)
        self.assertTrue(await store.take("code:kept"))
        await store.put("code:new", b"1", 60)
        self.assertEqual(await store.get("code:new"), b"1")

    async def test_what_one_process_claims_is_claimed_for_all(self) -> None:
        """Replicas that share a store use nothing twice."""
        one = self.make_store()
        other = self.make_other(one)
        await one.put("code:a", b"1", 60)
        self.assertEqual(await other.get("code:a"), b"1")
        taken = await gatherResults([store.take("code:a") for store in (one, other) * 5])
        self.assertEqual(sorted(value or b"" for value in taken), [b""] * 9 + [b"1"])
        claimed = await gatherResults([store.add("refresh:a", b"x", 60) for store in (one, other) * 5])
        self.assertEqual(sorted(claimed), [False] * 9 + [True])

    async def test_listeners_hear_what_is_published(self) -> None:
        """A logout that reaches one replica is heard by all, itself included: in order, byte for byte."""
        one = self.make_store()
        other = self.make_other(one)
        here: list[bytes] = []
        there: list[bytes] = []
        await one.subscribe("revoked", here.append)
        await other.subscribe("revoked", there.append)
        messages = [bytes(range(256)), b"", *(b"%d" % number for number in range(20))]
        for message in messages:
            await one.publish("revoked", message)
        await self.eventually(lambda: len(here) + len(there) >= 2 * len(messages), "everybody heard all")
        self.assertEqual((here, there), (messages, messages))

    async def test_channels_do_not_meet(self) -> None:
        """What is said on one channel is not heard on another, and said once it is heard once."""
        store = self.make_store()
        heard: list[tuple[str, bytes]] = []
        for channel in ("a", "b"):
            await store.subscribe(channel, lambda message, channel=channel: heard.append((channel, message)))
        await store.publish("a", b"1")
        await store.publish("nobody", b"2")
        await store.publish("b", b"3")
        await self.eventually(lambda: ("b", b"3") in heard, "the last message is heard")
        self.assertEqual(sorted(heard), [("a", b"1"), ("b", b"3")])

    async def test_unsubscribe(self) -> None:
        """Who has unsubscribed hears no more, and the others go on hearing."""
        store = self.make_store()
        gone: list[bytes] = []
        stays: list[bytes] = []
        unsubscribe = await store.subscribe("a", gone.append)
        await store.subscribe("a", stays.append)
        unsubscribe()
        unsubscribe()
        await store.publish("a", b"1")
        await self.eventually(lambda: stays == [b"1"], "the message is heard")
        self.assertEqual(gone, [])

    async def test_what_was_said_before_is_not_heard(self) -> None:
        """A process that comes later begins with what comes next."""
        one = self.make_store()
        heard: list[bytes] = []
        await one.publish("a", b"early")
        other = self.make_other(one)
        await other.subscribe("a", heard.append)
        await one.publish("a", b"late")
        await self.eventually(lambda: bool(heard), "a message is heard")
        self.assertEqual(heard, [b"late"])

    async def test_a_subscription_given_up(self) -> None:
        """Who does not wait for a subscription to begin does not have it afterwards."""
        store = self.make_store()
        heard: list[bytes] = []
        others: list[bytes] = []
        given_up = store.subscribe("a", heard.append)
        if not given_up.called:
            given_up.cancel()
            await self.assertFailure(given_up, CancelledError)
        else:
            given_up.result()
        await store.subscribe("a", others.append)
        await store.publish("a", b"1")
        await self.eventually(lambda: bool(others), "the message is heard")
        self.assertEqual(heard, [])

    async def test_a_listener_that_fails(self) -> None:
        """A mistake in one listener does not keep the others from hearing, and is logged."""

        def fails(_: bytes) -> None:
            raise KeyError("a mistake")

        store = self.make_store()
        heard: list[bytes] = []
        await store.subscribe("a", fails)
        await store.subscribe("a", heard.append)
        await store.publish("a", b"1")
        await self.eventually(lambda: heard == [b"1"], "the message is heard")
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)


class ClockedStoreCase(TestCase):
    """A test case with a clock of its own, for stores that take one."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
