"""Documents that were fetched before: fresh ones without asking, the last good one where asking fails.

A copy is as good from another process as from this one. What holds is the newest that a document's host said
to any of them: a good document, or that there is none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

from attrs import Factory, define, evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mcp_oauth2_proxy.cimd.fetch import Fetched, FetchError
from mcp_oauth2_proxy.cimd.interfaces import Copy, ICopies
from mcp_oauth2_proxy.cimd.known import Entry, Known

#: Seconds for which a failure is not tried again; without it each step of a login would wait for it.
RETRY = 30.0
#: Seconds for which the last good copy is used while its host fails: a long weekend and some.
STALE = 7 * 86400.0

_T = TypeVar("_T")


class DocumentRefused(Exception):
    """There is no such document, or it breaks a rule: it stays so until its owner changes it."""


class DocumentUnavailable(Exception):
    """The document could not be fetched, and there is no copy: it may work in a moment."""


@define
class _Search(Generic[_T]):
    """Who waits for a document, and when it must have been fetched at the earliest."""

    newer_than: float
    waiting: list[Deferred[_T]] = Factory(list)

    def join(self, newer_than: float) -> Deferred[_T]:
        self.newer_than = max(self.newer_than, newer_than)
        self.waiting.append(Deferred())
        return self.waiting[-1]


class Library(Generic[_T]):
    """Documents as ``read(url, document)`` understands them; it raises ``ValueError`` for a bad one.

    ``fetch`` is :meth:`Fetcher.get`. ``copies`` are what other processes have fetched and this one will find
    when it starts anew; each is read as if it came from its host. ``pinned`` are copies for hosts that refuse
    to serve data centres.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        fetch: Callable[[str], Awaitable[Fetched]],
        read: Callable[[str, Mapping[str, Any]], _T],
        clock: IReactorTime,
        copies: ICopies,
        pinned: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._fetch = fetch
        self._read = read
        self._clock = clock
        self._copies = copies
        self._pinned = pinned
        self._known: Known[_T] = Known()
        self._searches: dict[str, _Search[_T]] = {}

    def get(self, url: str, *, newer_than: float = 0.0) -> Deferred[_T]:
        """Return the document at ``url``; one fetched before ``newer_than`` is fetched again though fresh.

        Concurrent callers share one fetch, which goes on when they leave. Fails with
        :exc:`DocumentRefused` or :exc:`DocumentUnavailable`.
        """
        search = self._searches.get(url)
        if search is not None:
            return search.join(newer_than)
        search = _Search(newer_than)
        waiting = search.join(newer_than)
        entry = self._known.get(url)
        if entry is not None and entry.serves(self._clock.seconds(), newer_than):
            _tell(entry, search)
        else:
            self._searches[url] = search
            Deferred.fromCoroutine(self._find(url, search)).addBoth(self._found, url)
        return waiting

    def _found(self, result: Entry[_T] | Failure, url: str) -> None:
        _tell(result, self._searches.pop(url))

    async def _find(self, url: str, search: _Search[_T]) -> Entry[_T]:
        entry = self._newest(url, await self._copies.find(url))
        now = self._clock.seconds()
        if entry is not None and entry.serves(now, search.newer_than):
            return entry
        try:
            fetched = await self._fetch(url)
            value = self._read(url, fetched.document)
        except ValueError as error:
            return self._refused(url, now, f"{url} {error}")
        except FetchError as error:
            if error.gone:
                return self._refused(url, now, f"{url}: {error}")
            return self._without_its_host(url, entry, error)
        self._copies.keep(url, Copy(fetched.document, now, fetched.lifetime))
        return self._known.put(url, Entry(value, now, now + fetched.lifetime))

    def _newest(self, url: str, copy: Copy | None) -> Entry[_T] | None:
        """Return what is known of ``url``, a ``copy`` included that is newer."""
        entry = self._known.get(url)
        if copy is None or (entry is not None and copy.said_at <= entry.said_at):
            return entry
        try:
            value = None if copy.document is None else self._read(url, copy.document)
        except ValueError:  # the rules are stricter than when it was fetched
            value = None
        # Where there is no good document that is known, and who asks is still told by the host itself.
        fresh_until = 0.0 if value is None else copy.said_at + copy.lifetime
        return self._known.put(url, Entry(value, copy.said_at, fresh_until))

    def _refused(self, url: str, now: float, why: str) -> Entry[_T]:
        """The host was asked, and there is no good document: no copy of one holds, here or elsewhere."""
        self._copies.keep(url, Copy(None, now))
        return self._known.put(url, Entry(None, now, now + RETRY, DocumentRefused(why)))

    def _without_its_host(self, url: str, entry: Entry[_T] | None, why: FetchError) -> Entry[_T]:
        """Return the last good copy, or the pinned one."""
        now = self._clock.seconds()
        ask_at = now + RETRY
        if entry is not None and entry.is_good and now - entry.said_at < STALE:
            self._log.warn("{url} could not be fetched ({why}): the last good copy is used", url=url, why=why)
            return self._known.put(url, evolve(entry, ask_at=ask_at, trouble=why))
        # What the host said last is not forgotten: an older copy must not come up again.
        said_at = 0.0 if entry is None else entry.said_at
        pinned = self._pinned.get(url)
        if pinned is not None:
            self._log.warn("{url} could not be fetched ({why}): the built-in copy is used", url=url, why=why)
            value = self._read(url, pinned)
            return self._known.put(url, Entry(value, said_at, ask_at, why, built_in=True))
        trouble = DocumentUnavailable(f"{url}: {why}")
        return self._known.put(url, Entry(None, said_at, ask_at, trouble))


def _tell(result: Entry[_T] | Failure, search: _Search[_T]) -> None:
    answer: Any = result
    if isinstance(result, Entry):
        answer = result.value if result.value is not None else Failure(result.trouble)
    for waiting in search.waiting:
        if not waiting.called:
            waiting.callback(answer)  # a Failure starts the errback chain
