"""Documents that were fetched before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.cimd.fetch import Fetched, FetchError
from mcp_oauth2_proxy.cimd.library import (
    MAX_DOCUMENTS,
    RETRY,
    STALE,
    DocumentRefused,
    DocumentUnavailable,
    Library,
)

URL = "https://app.example/c"
PINNED = "https://known.example/c"


class Copies(SynchronousTestCase):
    """One library and a host that a test plays."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.asked: list[str] = []
        self.answer: Fetched | Exception | Deferred[Fetched] = Fetched({"name": "one"}, 600)
        self.library: Library[str] = Library(
            fetch=self.fetch, read=self.read, clock=self.clock, pinned={PINNED: {"name": "pinned"}}
        )

    async def fetch(self, url: str) -> Fetched:
        self.asked.append(url)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if isinstance(self.answer, Fetched) else await self.answer

    @staticmethod
    def read(url: str, document: Mapping[str, Any]) -> str:
        if "name" not in document:
            raise ValueError("has no name")
        return str(document["name"])

    def get(self, url: str = URL, **options: Any) -> str:
        return self.successResultOf(self.library.get(url, **options))

    def refused(self, kind: type[Exception], url: str = URL) -> str:
        return str(self.failureResultOf(self.library.get(url), kind).value)

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
        asked = len(self.asked)
        self.get("https://many.example/0")
        self.get("https://flood.example/0")
        self.assertEqual(len(self.asked), asked + 2)
