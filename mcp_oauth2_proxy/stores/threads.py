"""Blocking calls of a store, in threads of its own, so that the reactor never waits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from mcp_oauth2_proxy.stores.interfaces import StoreUnavailable

_T = TypeVar("_T")

#: Calls that wait at most: beyond, a store that is slow only makes a queue that nobody waits for any more.
MAX_WAITING = 1000


class Threads:
    """``size`` threads, started when the first call comes.

    A call that is cancelled while it waits for a thread never happens.
    """

    def __init__(self, reactor: Any, name: str, size: int) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=1, maxthreads=size, name=name)
        # A call that hangs does not keep the process from ending.
        self._pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
        self._waiting = 0
        self._closed = False

    def run(self, function: Callable[..., _T], *arguments: object) -> Deferred[_T]:
        """Return what ``function(*arguments)`` returns or raises in one of the threads."""
        if self._closed:
            return fail(StoreUnavailable("the store is closed"))
        if self._waiting >= MAX_WAITING:
            return fail(StoreUnavailable(f"{self._waiting} calls are waiting for the store"))
        if not self._pool.started:
            self._pool.start()
        self._waiting += 1
        wanted = True

        def unless_cancelled() -> _T:
            if not wanted:
                raise CancelledError
            return function(*arguments)

        def cancel(_: Deferred[Any]) -> None:
            nonlocal wanted
            wanted = False

        def done(result: Any) -> None:
            self._waiting -= 1
            if not answer.called:
                answer.callback(result)  # a Failure starts the errback chain

        answer: Deferred[_T] = Deferred(cancel)
        deferToThreadPool(self._reactor, self._pool, unless_cancelled).addBoth(done)
        return answer

    async def close(self, last: Callable[[], object] | None = None) -> None:
        """End the threads, after what was asked for and then ``last`` have run in them."""
        if self._closed:
            return
        self._closed = True
        if not self._pool.started:
            return
        if last is not None:
            await deferToThreadPool(self._reactor, self._pool, last)
        # Joining waits for calls that are still under way, so it is done elsewhere.
        await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._pool.stop)
