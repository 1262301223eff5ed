"""Subscriptions at Redis: one connection in one thread, made anew whenever it is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

from redis.exceptions import RedisClusterException, RedisError
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mcp_oauth2_proxy.stores.interfaces import Listener, Missed, Unsubscribe
from mcp_oauth2_proxy.stores.listeners import Listeners

#: Seconds between two looks of the thread at what it should do.
TICK = 0.2
#: Seconds of silence after which the server is asked, and after which the connection is given up: a server
#: that was cut off by the network says nothing, and for two seconds at most a logout may go unheard.
ASK_AFTER = 1.0
GIVE_UP_AFTER = 2.0
#: Seconds before the next attempt: at first, and at most.
FIRST_RETRY, LAST_RETRY = 0.1, 2.0


class Listening:
    """``connect()`` returns a redis-py ``PubSub``, ``prefix`` is put before every channel's name.

    The thread is there from the first subscription until :meth:`close`; it touches nothing of the reactor's
    thread but its own few attributes, each written by one side only.
    """

    _log = Logger()

    def __init__(self, reactor: Any, connect: Callable[[], Any], prefix: str) -> None:
        self._reactor = reactor
        self._connect = connect
        self._prefix = prefix
        self._listeners = Listeners()
        self._awaiting: list[tuple[str, Deferred[Unsubscribe], Unsubscribe]] = []
        #: The channels that Redis has confirmed on the connection there is now.
        self._confirmed: set[str] = set()
        #: Whether it was lost since it was there, and whether the log knows that it is not there.
        self._lost = self._told = False
        self._thread: Thread | None = None
        self._ended: Deferred[None] = Deferred()
        # Read by the thread. A channel stays wanted: there are few, and who comes again is heard at once.
        self._wanted: frozenset[str] = frozenset()
        self._closing = Event()

    def subscribe(self, channel: str, listener: Listener, missed: Missed | None) -> Deferred[Unsubscribe]:
        """See :class:`IStore`."""
        unsubscribe = self._listeners.add(channel, listener, missed)
        begun: Deferred[Unsubscribe] = Deferred(lambda _: unsubscribe())
        self._wanted |= {channel}
        if channel in self._confirmed:
            begun.callback(unsubscribe)
            return begun
        self._awaiting.append((channel, begun, unsubscribe))
        if self._thread is None:
            self._thread = Thread(target=self._listen, name="redis-listening", daemon=True)
            self._thread.start()
        return begun

    async def close(self) -> None:
        """End the thread; takes as long as one look."""
        self._closing.set()
        if self._thread is not None and not self._ended.called:
            await self._ended

    # In the reactor's thread, called by the other one.

    def _on_confirmed(self, channel: str) -> None:
        self._confirmed.add(channel)
        if self._confirmed == self._wanted:
            if self._told:
                self._log.info("listening to Redis")
            if self._lost:
                self._listeners.tell_missed()
            self._lost = self._told = False
        awaiting, self._awaiting = self._awaiting, []
        for one in awaiting:
            name, begun, unsubscribe = one
            if name != channel:
                self._awaiting.append(one)
            elif not begun.called:
                begun.callback(unsubscribe)

    def _on_lost(self, reason: str) -> None:
        if not self._told:
            self._told = True
            self._log.warn("cannot listen to Redis: {reason}", reason=reason)
        if self._confirmed:
            self._lost = True
        self._confirmed.clear()

    # In a thread of its own.

    def _listen(self) -> None:
        retry = FIRST_RETRY
        while not self._closing.is_set():
            begun = time.monotonic()
            pubsub = None
            try:
                pubsub = self._connect()
                self._hear(pubsub)
            except (RedisError, RedisClusterException, OSError) as error:
                self._call(self._on_lost, f"{type(error).__name__}: {error}")
            finally:
                if pubsub is not None:
                    pubsub.close()
            retry = FIRST_RETRY if time.monotonic() - begun > LAST_RETRY else min(2 * retry, LAST_RETRY)
            self._closing.wait(retry)
        self._call(self._ended.callback, None)

    def _hear(self, pubsub: Any) -> None:
        subscribed: frozenset[str] = frozenset()
        heard = asked = time.monotonic()
        while not self._closing.is_set():
            wanted = self._wanted
            if wanted - subscribed:
                pubsub.subscribe(*(self._prefix + channel for channel in wanted - subscribed))
                subscribed = wanted
            message = pubsub.get_message(timeout=TICK)
            now = time.monotonic()
            if message is not None:
                heard = now
                self._pass_on(message)
            elif now - heard > GIVE_UP_AFTER:
                raise OSError("nothing was heard")
            elif now - max(heard, asked) > ASK_AFTER:
                asked = now
                pubsub.ping()

    def _pass_on(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "pong":
            return
        channel = message["channel"].decode().removeprefix(self._prefix)
        if kind == "message":
            self._call(self._listeners.tell, channel, message["data"])
        elif kind == "subscribe":
            self._call(self._on_confirmed, channel)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        self._reactor.callFromThread(function, *arguments)
