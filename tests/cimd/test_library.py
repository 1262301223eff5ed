"""Documents that were fetched before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.cimd.fetch import Fetched, FetchError
from mcp_oauth2_proxy.cimd.known import MAX_DOCUMENTS
from mcp_oauth2_proxy.cimd.library import (
    RETRY,
    STALE,
    DocumentRefused,
    DocumentUnavailable,
    Library,
)
from mcp_oauth2_proxy.config.model import Cimd
from mcp_oauth2_proxy.facade.copies import PLACES, StoredCopies
from mcp_oauth2_proxy.facade.sealing import Sealer
from mcp_oauth2_proxy.facade.vault import Vault
from mcp_oauth2_proxy.stores.breaker import Breaker
from mcp_oauth2_proxy.stores.interfaces import IStore
from tests.facade.world import FragileStore

URL = "https://app.example/c"
PINNED = "https://known.example/c"


class LibraryCase(SynchronousTestCase):
    """Libraries with one store, and a host that a test plays."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.asked: list[str] = []
        self.answer: Fetched | Exception | Deferred[Fetched] = Fetched({"name": "one"}, 600)
        self.store = FragileStore(self.clock)
        self.library = self.started()

    def started(self, store: IStore | None = None) -> Library[str]:
        """Return the library of a process that has just begun."""
        vault = Vault(store or self.store, Sealer([b"key"], self.clock.seconds))
        return Library(
            fetch=self.fetch,
            read=self.read,
            clock=self.clock,
            copies=StoredCopies(vault, kind="test", policy=Cimd()),
            pinned={PINNED: {"name": "pinned"}},
        )

    async def fetch(self, url: str) -> Fetched:
        self.asked.append(url)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if isinstance(self.answer, Fetched) else await self.answer

    def read(self, url: str, document: Mapping[str, Any]) -> str:
        if "name" not in document:
            raise ValueError("has no name")
        return str(document["name"])

    def get(self, url: str = URL, **options: Any) -> str:
        return self.successResultOf(self.library.get(url, **options))

    def refused(self, kind: type[Exception], url: str = URL) -> str:
        return str(self.failureResultOf(self.library.get(url), kind).value)


class Copies(LibraryCase):
    """One process."""

    def test_fresh(self) -> None:
        """A fresh document is not asked for again; a stale one is."""
        self.assertEqual(self.get(), "one")
        self.clock.advance(599)
        self.answer = Fetched({"name": "two"}, 600)
        self.assertEqual(self.get(), "one")
        self.clock.advance(1)
        self.assertEqual(self.get(), "two")
        self.assertEqual(len(self.asked), 2)

    def test_newer_than(self) -> None:
        """A caller that knows better has it fetched again, and no more often than it says."""
        self.get()
        self.clock.advance(10)
        self.get(newer_than=self.clock.seconds() - 60)
        self.assertEqual(len(self.asked), 1)
        self.clock.advance(60)
        for _ in range(3):
            self.get(newer_than=self.clock.seconds() - 60)
        self.assertEqual(len(self.asked), 2)

    def test_one_fetch_for_all(self) -> None:
        """Concurrent callers share one fetch, which goes on when the first of them leaves."""
        self.answer = Deferred()
        first, second = self.library.get(URL), self.library.get(URL)
        first.addErrback(lambda _: None)
        first.cancel()
        self.answer.callback(Fetched({"name": "one"}, 600))
        self.assertEqual(self.successResultOf(second), "one")
        self.assertEqual(len(self.asked), 1)

    def test_the_last_good_copy(self) -> None:
        """A host that fails costs nobody a login, and is left alone for a while between two tries."""
        self.get()
        self.clock.advance(600)
        self.answer = FetchError("status 503")
        for _ in range(5):
            self.assertEqual(self.get(), "one")
        self.assertEqual(len(self.asked), 2)
        self.clock.advance(RETRY)
        self.assertEqual(self.get(), "one")
        self.assertEqual(len(self.asked), 3)
        self.clock.advance(RETRY)
        self.answer = Fetched({"name": "back"}, 600)
        self.assertEqual(self.get(), "back")

    def test_a_copy_is_not_for_ever(self) -> None:
        """After a week of failures the client is not known any more."""
        self.get()
        self.answer = FetchError("status 503")
        self.clock.advance(STALE)
        self.assertIn("status 503", self.refused(DocumentUnavailable))

    def test_gone(self) -> None:
        """A host that says there is none means it: the copy goes too."""
        self.get()
        self.clock.advance(600)
        self.answer = FetchError("status 404", gone=True)
        self.refused(DocumentRefused)
        self.answer = FetchError("status 503")
        self.clock.advance(RETRY)
        self.refused(DocumentUnavailable)

    def test_a_document_that_breaks_a_rule(self) -> None:
        """A bad document takes the place of a good copy, and is asked for again in its time."""
        self.get()
        self.clock.advance(600)
        self.answer = Fetched({}, 600)
        self.assertEqual(self.refused(DocumentRefused), f"{URL} has no name")
        self.refused(DocumentRefused)
        self.assertEqual(len(self.asked), 2)
        self.clock.advance(RETRY)
        self.answer = Fetched({"name": "mended"}, 600)
        self.assertEqual(self.get(), "mended")

    def test_pinned(self) -> None:
        """The built-in copy serves where its host never answered; the real document wins once it comes."""
        self.answer = FetchError("status 403")
        for _ in range(3):
            self.assertEqual(self.get(PINNED), "pinned")
        self.assertEqual(len(self.asked), 1)
        self.clock.advance(RETRY)
        self.answer = Fetched({"name": "real"}, 600)
        self.assertEqual(self.get(PINNED), "real")
        self.answer = FetchError("status 404", gone=True)
        self.clock.advance(600)
        self.refused(DocumentRefused, PINNED)

    def test_bounded(self) -> None:
        """A flood of bad URLs drops no good copy, and neither kind grows without end."""
        self.get()
        self.answer = FetchError("cannot connect")
        for number in range(MAX_DOCUMENTS + 50):
            self.refused(DocumentUnavailable, f"https://flood.example/{number}")
        asked = len(self.asked)
        self.assertEqual(self.get(), "one")
        self.assertEqual(len(self.asked), asked)
        self.answer = Fetched({"name": "x"}, 600)
        for number in range(MAX_DOCUMENTS + 50):
            self.get(f"https://many.example/{number}")
        self.store.down = True
        asked = len(self.asked)
        self.get("https://many.example/0")
        self.get("https://flood.example/0")
        self.assertEqual(len(self.asked), asked + 2)


class Shared(LibraryCase):
    """A process that has no copy of its own, and a store in which another one has left its copies."""

    def setUp(self) -> None:
        super().setUp()
        self.first = self.library
        self.get()
        self.library = self.started()

    def at_first(self) -> str:
        """Return what the other process says."""
        return self.successResultOf(self.first.get(URL))

    def test_fresh(self) -> None:
        """It is used as if this process had fetched it: not a moment longer, and nobody is asked."""
        self.clock.advance(599)
        self.assertEqual(self.get(), "one")
        self.assertEqual(len(self.asked), 1)
        self.answer = Fetched({"name": "two"}, 600)
        self.clock.advance(1)
        self.assertEqual(self.get(), "two")
        self.assertEqual(len(self.asked), 2)
        self.assertEqual(self.at_first(), "two")
        self.assertEqual(len(self.asked), 2, "one fetch serves both")

    def test_once_is_enough(self) -> None:
        """While it is fresh the store is not asked again."""
        self.get()
        asked = len(self.store.keys)
        self.get()
        self.assertEqual(len(self.store.keys), asked)

    def test_newer_than(self) -> None:
        """A caller that wants a newer one than there is gets it from the host, and so do others then."""
        self.clock.advance(100)
        self.answer = Fetched({"name": "two"}, 600)
        self.assertEqual(self.get(newer_than=self.clock.seconds() - 60), "two")
        self.assertEqual(len(self.asked), 2)
        self.assertEqual(
            self.successResultOf(self.first.get(URL, newer_than=self.clock.seconds() - 60)), "two"
        )
        self.assertEqual(len(self.asked), 2)

    def test_newer_than_among_others(self) -> None:
        """One who joins those that wait for the store, and wants a newer one, gets it for all of them."""
        get, asked = self.store.inner.get, list[tuple[Deferred[bytes | None], str]]()

        def slow(key: str) -> Deferred[bytes | None]:
            asked.append((Deferred(), key))
            return asked[-1][0]

        self.patch(self.store.inner, "get", slow)
        self.clock.advance(100)
        self.answer = Fetched({"name": "two"}, 600)
        waiting = [self.library.get(URL, newer_than=since) for since in (0, self.clock.seconds() - 60, 0)]
        while asked:
            answer, key = asked.pop()
            get(key).chainDeferred(answer)
        self.assertEqual([self.successResultOf(one) for one in waiting], ["two"] * 3)

    def test_its_host_is_down(self) -> None:
        """The last good copy is as good as one of one's own, for a week."""
        self.answer = FetchError("status 503")
        self.clock.advance(STALE - 2 * RETRY)
        self.assertEqual(self.get(), "one")
        self.assertEqual(self.get(), "one")
        self.assertEqual(len(self.asked), 2)
        self.clock.advance(2 * RETRY)
        self.refused(DocumentUnavailable)
        self.library = self.started()
        self.refused(DocumentUnavailable)

    def test_before_the_built_in_copy(self) -> None:
        """What the host said itself is better than what was built in."""
        self.answer = Fetched({"name": "real"}, 600)
        self.get(PINNED)
        self.library = self.started()
        self.clock.advance(600)
        self.answer = FetchError("status 403")
        self.assertEqual(self.get(PINNED), "real")

    def test_it_comes_later(self) -> None:
        """Whoever could not reach the host finds what another could."""
        other = "https://other.example/c"
        self.answer = FetchError("status 503")
        self.refused(DocumentUnavailable, other)
        self.answer = Fetched({"name": "other"}, 600)
        self.successResultOf(self.first.get(other))
        self.clock.advance(RETRY)
        self.answer = FetchError("status 503")
        self.assertEqual(self.get(other), "other")

    def test_gone(self) -> None:
        """A host that has taken its document back has done so for all, those with a copy included."""
        for answer in (FetchError("status 410", gone=True), Fetched({}, 600)):
            self.answer = Fetched({"name": "one"}, 600)
            self.clock.advance(600)
            self.assertEqual(self.at_first(), "one")
            self.clock.advance(600)
            self.answer = answer
            self.library = self.started()
            self.refused(DocumentRefused)
            self.answer = FetchError("status 503")
            for library in (self.first, self.library, self.started()):
                self.clock.advance(RETRY)
                self.failureResultOf(library.get(URL), DocumentUnavailable)
            self.answer = Fetched({"name": "one"}, 600)
            self.clock.advance(RETRY)
            self.assertEqual(self.at_first(), "one", "published again")

    def test_gone_while_the_store_is_down(self) -> None:
        """Whoever heard it knows better than the copy that could not be removed."""
        self.clock.advance(600)
        self.store.down = True
        self.answer = FetchError("status 404", gone=True)
        self.refused(DocumentRefused)
        self.store.down = False
        self.answer = FetchError("status 503")
        for _ in range(3):
            self.clock.advance(RETRY)
            self.refused(DocumentUnavailable)

    def test_stricter_rules(self) -> None:
        """A copy is judged as what comes from its host: one that breaks a rule is none."""

        def stricter(_: str, document: Mapping[str, Any]) -> str:
            raise ValueError("is of yesterday")

        self.patch(self, "read", stricter)
        self.library = self.started()
        self.answer = FetchError("status 503")
        self.refused(DocumentUnavailable)
        self.assertEqual(len(self.asked), 2)

    def test_the_store_is_down(self) -> None:
        """Its host serves it then."""
        self.store.down = True
        self.assertEqual(self.get(), "one")
        self.assertEqual(len(self.asked), 2)
        self.assertEqual(self.get(), "one")
        self.assertEqual(len(self.asked), 2)

    def test_the_store_says_nothing(self) -> None:
        """It is waited for as long as any login waits for it, and soon not at all."""
        self.store.silent = True
        self.library = self.started(Breaker(self.store, self.clock, wait=2))
        for number in range(2):
            waiting = self.library.get(f"https://app{number}.example/c")
            self.assertNoResult(waiting)
            self.clock.advance(2)
            self.assertEqual(self.successResultOf(waiting), "one")
        self.assertEqual(self.get("https://another.example/c"), "one")

    def test_a_flood(self) -> None:
        """Documents without end, good and bad, make a bounded number of copies; bad ones none."""
        self.answer = FetchError("status 404", gone=True)
        for number in range(100):
            self.refused(DocumentRefused, f"https://flood.example/{number}")
        self.assertEqual(len(self.store.inner), 1)
        self.answer = Fetched({"name": "x"}, 600)
        for number in range(2 * PLACES):
            self.get(f"https://many.example/{number}")
        self.assertLessEqual(len(self.store.inner), PLACES)
        self.assertGreater(len(self.store.inner), PLACES // 2)
