"""HTTP as the suite's clients use it: every answer is told to the judge, every wait ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, PartialDownloadError, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse

from tests.chaos.history import Answered
from tests.support.browser import Answer, Browser

if TYPE_CHECKING:
    from tests.chaos.world import World

#: Seconds that a client waits for one answer, and that a browser waits for a real Keycloak, which hashes
#: passwords on the cores that everything else here needs.
PATIENCE, SLOW_REALM = 4.0, 12.0
#: Seconds without an event after which a stream's client comes back; it is told one each fifth of one.
SILENCE = 3.0


class Lost(Exception):
    """No answer, or not a whole one: the request may have been served, and may not."""


#: What befalls connections whose other end goes away.
_LOSSES = (ConnectError, ConnectionClosed, ResponseFailed, PartialDownloadError, TimeoutError, CancelledError)


class Watched(Browser):
    """A browser, or an application's HTTP client, of ``actor``. Raises :exc:`Lost`."""

    def __init__(self, world: World, actor: str) -> None:
        super().__init__(world.reactor, timeout=SLOW_REALM)
        self._world = world
        self._actor = actor

    async def request(self, method: str, url: str, **options: Any) -> Answer:
        """Make one request, following nothing."""
        asking = Deferred.fromCoroutine(super().request(method, url, **options))
        via = self._world.place(url)
        patience = SLOW_REALM if self._world.plan.keycloak and not via else PATIENCE
        try:
            answer: Answer = await asking.addTimeout(patience, self._world.reactor)
        except _LOSSES as error:
            raise Lost(f"{method} {urlsplit(url).path[:40]}: {type(error).__name__}") from None
        if via:
            what = urlsplit(url).path.rpartition("/")[2]
            self._world.saw(Answered(self._actor, via, what, answer.status, error_of(answer)))
        return answer


def error_of(answer: Answer) -> str:
    """Return the OAuth error code of an answer, if it has one."""
    if answer.status < 400 or not answer.body.startswith(b"{"):
        return ""
    return str(json.loads(answer.body).get("error", ""))


@frozen
class StreamEvent:
    """One event of a stream."""

    number: int
    data: dict[str, Any]


class _Reader(Protocol):
    """Reads an event stream to its end; ``ended`` fires then, well or not."""

    transport: Any

    def __init__(self, world: World, on_event: Callable[[StreamEvent], None]) -> None:
        self.ended: Deferred[None] = Deferred()
        self._world = world
        self._on_event = on_event
        self._buffer = b""

    def connectionMade(self) -> None:
        self._silence = self._world.reactor.callLater(SILENCE, self._silent)

    def dataReceived(self, data: bytes) -> None:
        self._silence.reset(SILENCE)
        *whole, self._buffer = (self._buffer + data).split(b"\n\n")
        for block in whole:
            fields = dict(line.split(": ", 1) for line in block.decode().splitlines())
            self._on_event(StreamEvent(int(fields["id"]), json.loads(fields["data"])))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._silence.active():
            self._silence.cancel()
        self.ended.callback(None)

    def dawdle(self, seconds: float) -> None:
        """Read nothing for a while."""
        if self._silence.active():
            self._silence.reset(seconds + SILENCE)
            self.transport.pauseProducing()
            self._world.reactor.callLater(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._silence.active():
            self.transport.resumeProducing()

    def leave(self) -> None:
        """Hang up."""
        if self._silence.active():
            self.transport.loseConnection()

    def _silent(self) -> None:
        self._silence = self._world.reactor.callLater(0, lambda: None)
        self.transport.loseConnection()


class EventStream:
    """One connection of an event stream. :meth:`open` returns the status; :attr:`ended` fires at its end."""

    def __init__(self, world: World, on_event: Callable[[StreamEvent], None]) -> None:
        self._world = world
        self._reader = _Reader(world, on_event)
        self._agent = Agent(world.reactor, connectTimeout=PATIENCE)

    @property
    def ended(self) -> Deferred[None]:
        """Return what fires when the stream has ended."""
        return self._reader.ended

    async def open(self, token: str, name: str, last: int) -> int:
        """Ask for the events of stream ``name`` after number ``last``. Raises :exc:`Lost`."""
        headers = {
            "Accept": ["text/event-stream"],
            "Authorization": [f"Bearer {token}"],
            "Mcp-Session-Id": [name],
            "Last-Event-ID": [str(last)],
        }
        asking = self._agent.request(b"GET", f"{self._world.base_url}/mcp".encode(), Headers(headers))
        try:
            response: IResponse = await asking.addTimeout(PATIENCE, self._world.reactor)
        except _LOSSES as error:
            raise Lost(f"stream: {type(error).__name__}") from None
        response.deliverBody(self._reader)
        if response.code != 200 or response.length is not UNKNOWN_LENGTH:
            self.leave()
        return int(response.code)

    def dawdle(self, seconds: float) -> None:
        """Read nothing for a while."""
        self._reader.dawdle(seconds)

    def leave(self) -> None:
        """Hang up."""
        self._reader.leave()
