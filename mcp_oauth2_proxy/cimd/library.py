"""Documents that were fetched before: fresh ones without asking, the last good one where asking fails."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mcp_oauth2_proxy.cimd.fetch import Fetched, FetchError

#: Documents that are remembered, good and bad ones apart: a flood of bad URLs drops no good copy.
MAX_DOCUMENTS = 512
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
class _Entry(Generic[_T]):
    value: _T | None
    fetched_at: float
    ask_at: float
    trouble: Exception | None = None

    def serves(self, now: float, newer_than: float) -> bool:
        """Return whether the entry answers without asking its host: it is fresh, or was tried just now."""
        return now < self.ask_at and (self.trouble is not None or self.fetched_at >= newer_than)


class Library(Generic[_T]):
    """Documents as ``read(url, document)`` understands them; it raises ``ValueError`` for a bad one.

    ``fetch`` is :meth:`Fetcher.get`. ``pinned`` are copies for hosts that refuse to serve data centres.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        fetch: Callable[[str], Awaitable[Fetched]],
        read: Callable[[str, Mapping[str, Any]], _T],
        clock: IReactorTime,
        pinned: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._fetch = fetch
        self._read = read
        self._clock = clock
        self._pinned = pinned
        self._good: OrderedDict[str, _Entry[_T]] = OrderedDict()
        self._bad: OrderedDict[str, _Entry[_T]] = OrderedDict()
        self._waiting: dict[str, list[Deferred[_T]]] = {}

    def get(self, url: str, *, newer_than: float = 0.0) -> Deferred[_T]:
        """Return the document at ``url``; one fetched before ``newer_than`` is fetched again though fresh.

        Concurrent callers share one fetch, which goes on when they leave. Fails with
        :exc:`DocumentRefused` or :exc:`DocumentUnavailable`.
        """
        waiting: Deferred[_T] = Deferred()
        others = self._waiting.get(url)
        if others is not None:
            others.append(waiting)
            return waiting
        entry = self._good.get(url) or self._bad.get(url)
        now = self._clock.seconds()
        if entry is not None and entry.serves(now, newer_than):
            self._touch(url)
            _tell(waiting, entry.value if entry.value is not None else Failure(entry.trouble))
            return waiting
        self._waiting[url] = [waiting]
        Deferred.fromCoroutine(self._ask(url, entry)).addBoth(self._spread, url)
        return waiting

    def _spread(self, result: _T | Failure, url: str) -> None:
        for waiting in self._waiting.pop(url):
            _tell(waiting, result)

    async def _ask(self, url: str, entry: _Entry[_T] | None) -> _T:
        now = self._clock.seconds()
        try:
            fetched = await self._fetch(url)
            value = self._read(url, fetched.document)
        except ValueError as error:
            trouble: Exception = DocumentRefused(f"{url} {error}")
        except FetchError as error:
            if not error.gone:
                return self._copy(url, entry, str(error))
            trouble = DocumentRefused(f"{url}: {error}")
        else:
            self._bad.pop(url, None)
            self._keep(self._good, url, _Entry(value, now, now + fetched.lifetime))
            return value
        self._good.pop(url, None)
        self._keep(self._bad, url, _Entry(None, now, now + RETRY, trouble))
        raise trouble

    def _copy(self, url: str, entry: _Entry[_T] | None, why: str) -> _T:
        """Return the last good copy, or the pinned one."""
        now = self._clock.seconds()
        if entry is not None and entry.value is not None and now - entry.fetched_at < STALE:
            self._log.warn("{url} could not be fetched ({why}): the last good copy is used", url=url, why=why)
            entry.ask_at, entry.trouble = now + RETRY, FetchError(why)
            return entry.value
        self._good.pop(url, None)
        pinned = self._pinned.get(url)
        if pinned is not None:
            self._log.warn("{url} could not be fetched ({why}): the built-in copy is used", url=url, why=why)
            value = self._read(url, pinned)
            self._keep(self._bad, url, _Entry(value, now, now + RETRY, FetchError(why)))
            return value
        trouble = DocumentUnavailable(f"{url}: {why}")
        self._keep(self._bad, url, _Entry(None, now, now + RETRY, trouble))
        raise trouble

    def _keep(self, shelf: OrderedDict[str, _Entry[_T]], url: str, entry: _Entry[_T]) -> None:
        shelf[url] = entry
        shelf.move_to_end(url)
        if len(shelf) > MAX_DOCUMENTS:
            shelf.popitem(last=False)

    def _touch(self, url: str) -> None:
        for shelf in (self._good, self._bad):
            if url in shelf:
                shelf.move_to_end(url)


def _tell(waiting: Deferred[_T], result: _T | Failure) -> None:
    if not waiting.called:
        waiting.callback(result)  # a Failure starts the errback chain
