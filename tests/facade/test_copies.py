"""Copies of metadata documents in the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mcp_oauth2_proxy.cimd.interfaces import Copy, ICopies
from mcp_oauth2_proxy.cimd.library import STALE
from mcp_oauth2_proxy.config.model import Cimd
from mcp_oauth2_proxy.facade.copies import MAX_COPY, PLACES, StoredCopies
from mcp_oauth2_proxy.facade.sealing import MAX_SEALED, Sealer
from mcp_oauth2_proxy.facade.vault import Vault
from mcp_oauth2_proxy.stores.memory import MemoryStore
from tests.facade.world import START, FragileStore

URL = "https://app.example/oauth/client.json"


class CopiesCase(SynchronousTestCase):
    """A store, and those who keep copies in it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.store = FragileStore(self.clock)
        self.copies = self.process()

    def process(
        self, *, kind: str = "document", key: bytes = b"key", store: Any = None, **policy: Any
    ) -> StoredCopies:
        """Return what a process of this configuration sees."""
        vault = Vault(store or self.store, Sealer([key], self.clock.seconds))
        return StoredCopies(vault, kind=kind, policy=Cimd(**policy))

    def copy(self, document: Mapping[str, Any] | None = None, **options: Any) -> Copy:
        """Return a copy of now."""
        return Copy(document or {"name": "one"}, self.clock.seconds(), 600, **options)

    def keep(self, copy: Copy, url: str = URL, copies: StoredCopies | None = None) -> None:
        self.successResultOf((copies or self.copies).keep(url, copy))

    def find(self, url: str = URL, copies: StoredCopies | None = None) -> Copy | None:
        return self.successResultOf((copies or self.copies).find(url))


class Stored(CopiesCase):
    """What is put there, and what comes back."""

    def test_provides_the_interface(self) -> None:
        """A library can use it."""
        self.assertTrue(verifyObject(ICopies, self.copies))

    def test_found_by_others(self) -> None:
        """Another process finds the same; what nobody kept is not there."""
        copy = self.copy()
        self.keep(copy)
        self.assertEqual(self.find(copies=self.process()), copy)
        self.assertIsNone(self.find(URL + "x"))

    def test_a_week(self) -> None:
        """It is there for a week, and then by itself no more."""
        self.keep(self.copy())
        self.clock.advance(STALE - 1)
        self.assertIsNotNone(self.find())
        self.clock.advance(1)
        self.assertIsNone(self.find())
        self.assertEqual(len(self.store.inner), 0)

    def test_the_newest_holds(self) -> None:
        """A copy takes the place of an older one of its URL, one that came late does not."""
        late = self.copy({"name": "late"})
        self.clock.advance(1)
        self.keep(self.copy({"name": "new"}))
        self.keep(late)
        found = self.find()
        assert found is not None
        self.assertEqual(found.document, {"name": "new"})
        self.assertEqual(len(self.store.inner), 1)

    def test_there_is_none(self) -> None:
        """That a host has no document any more is kept where there was a copy, and nowhere else."""
        nothing = Copy(None, self.clock.seconds())
        self.keep(nothing)
        self.assertEqual(len(self.store.inner), 0)
        self.keep(self.copy())
        self.keep(nothing)
        self.assertEqual(self.find(), nothing)

    def test_what_the_store_sees(self) -> None:
        """Neither the URL nor the document; who writes to the store can neither invent nor swap a copy."""
        values = {}
        for number in range(3):
            self.keep(self.copy({"name": "secret-name"}), f"{URL}?{number}")
        for key in {key for key in self.store.keys if key.startswith("copy:")}:
            value = self.successResultOf(self.store.inner.get(key))
            if value is not None:
                values[key] = value
                self.assertNotIn(b"secret-name", value)
        self.assertEqual(len(values), 3)
        for value in (next(iter(values.values())), b"noise", b"\xff"):
            for key in {key for key in self.store.keys if key.startswith("copy:")}:
                self.store.inner.put(key, value, 600)
            found = [self.find(f"{URL}?{number}") for number in range(3)]
            self.assertGreaterEqual(found.count(None), 2, "a copy is one of its own URL alone")
        self.assertIsNone(self.find(copies=self.process(key=b"another key")))

    def test_apart(self) -> None:
        """No document is taken for a key set, and none is used that came by a way that is closed now."""
        self.keep(self.copy())
        for other in (
            self.process(kind="keys"),
            self.process(allowed_networks=("10.0.0.0/8",)),
            self.process(ca_file="/ca.pem"),
        ):
            self.assertIsNone(self.find(copies=other))
        wide, narrow = self.process(allowed_networks=("10.0.0.0/8", "fd00::/8")), self.process()
        self.keep(self.copy({"name": "inside"}), "https://inside.example/c", wide)
        self.assertIsNone(self.find("https://inside.example/c", narrow))
        same = self.process(allowed_networks=("fd00::/8", "10.0.0.0/8"))
        self.assertIsNotNone(self.find("https://inside.example/c", same))


class Bounds(CopiesCase):
    """What strangers can do to the store by publishing documents."""

    def test_the_places(self) -> None:
        """The largest documents without end take 12 MB, spread evenly, and never another key."""
        largest = {"x": "y" * (MAX_COPY - 8)}
        store = MemoryStore(self.clock)
        for key in ("code:a", "state:b"):
            store.put(key, b"precious", 60)
        shared = FragileStore(self.clock, store)
        copies = self.process(store=shared)
        for number in range(4 * PLACES):
            self.keep(self.copy(largest if number % 8 == 0 else None), f"{URL}?{number}", copies)
        self.assertLessEqual(len(store), PLACES + 2)
        self.assertGreater(len(store), PLACES - 24)
        self.assertEqual({key.partition(":")[0] for key in shared.keys}, {"copy"})
        self.assertEqual(self.successResultOf(store.get("code:a")), b"precious")
        value = max(
            (self.successResultOf(store.get(f"copy:{place}")) or b"" for place in range(PLACES)), key=len
        )
        self.assertLess(len(value), MAX_SEALED)
        self.assertLess(PLACES * len(value), 12_000_000)
        self.assertLess(max(Counter(shared.keys).values()), 40 * 6)

    def test_those_in_use_do_not_meet(self) -> None:
        """Of forty clients hardly one loses its copy to another."""
        for number in range(40):
            self.keep(self.copy(), f"https://app{number}.example/client.json")
        found = [self.find(f"https://app{number}.example/client.json") for number in range(40)]
        self.assertLessEqual(found.count(None), 1)

    def test_too_large(self) -> None:
        """It is not kept, and an older copy of it goes: it is not what the host says. The log tells once."""
        self.keep(self.copy())
        self.clock.advance(1)
        with capturedLogs() as events:
            for _ in range(3):
                self.keep(self.copy({"x": "y" * MAX_COPY}))
        found = self.find()
        assert found is not None
        self.assertIsNone(found.document)
        self.assertEqual(len([event for event in events if "larger than" in eventAsText(event)]), 1)

    def test_too_deep(self) -> None:
        """A document that is made to break what reads it breaks nothing, however deep it is exactly."""
        document: dict[str, Any] = {}
        for depth in range(1, 1010):
            document = {"a": document}
            if depth > 860 and depth % 2:
                self.keep(self.copy(document))
                self.find()

    def test_a_full_store(self) -> None:
        """The log tells it once, and again when it happens after copies could be kept."""
        copies = self.process(store=FragileStore(self.clock, MemoryStore(self.clock, max_bytes=2000)))
        with capturedLogs() as events:
            for number in range(9):
                self.keep(self.copy({"x": "y" * 600}), f"{URL}?{number}", copies)
        told = [line for line in map(eventAsText, events) if "cannot be kept" in line]
        self.assertEqual(len(told), 1)
        self.assertIn("full", told[0])

    def test_the_store_is_down(self) -> None:
        """Nothing is found, nothing kept, and nobody sees an error."""
        self.keep(self.copy())
        self.store.down = True
        self.assertIsNone(self.find())
        self.keep(self.copy())
        self.store.down = False
        self.assertIsNotNone(self.find())
