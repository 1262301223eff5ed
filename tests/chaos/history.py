"""What happened, in its order, as it is seen from the outside. Tokens and codes appear as short digests."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator

from attrs import fields, frozen

#: Events that are kept, so that a run of hours takes no more memory than one of minutes.
KEPT = 20_000


def mark(secret: str) -> str:
    """Return what stands for a token, code or state in the history."""
    return hashlib.sha256(secret.encode()).hexdigest()[:10]


@frozen
class Moment:
    """A point in time: ``wall`` in seconds since the epoch, ``pace`` in seconds that the suite itself ran."""

    wall: float
    pace: float


@frozen
class Event:
    """Something that ``actor`` did or saw."""

    actor: str


@frozen
class Note(Event):
    """What the suite does to the parts."""

    text: str


@frozen
class Calm(Event):
    """From now on everything is expected to work (``yes``), or not."""

    yes: bool


@frozen
class Answered(Event):
    """Any answer of the proxy, by way of nginx or of a replica (``via``)."""

    via: str
    what: str
    status: int
    error: str = ""


@frozen
class Registered(Event):
    """A client is known from now on, for ever."""

    client: str


@frozen
class ComeBack(Event):
    """The browser brought a state to the callback, and got a code for its client or none."""

    via: str
    state: str
    code: bool


@frozen
class Redeemed(Event):
    """A code was brought to the token endpoint."""

    via: str
    code: str
    status: int


@frozen
class Received(Event):
    """A client has got an access token of session ``sid``; its login had begun ``expected``."""

    sid: str
    expected: str


@frozen
class Refreshed(Event):
    """A refresh token was used from ``began`` until now; status 0 is an answer that never came."""

    via: str
    token: str
    sid: str
    began: Moment
    status: int
    successor: str = ""


@frozen
class Stolen(Event):
    """A client tried another one's refresh token."""

    via: str
    token: str
    status: int


@frozen
class Sent(Event):
    """A client begins to send request ``nonce`` with a token that is good until ``expires``."""

    via: str
    nonce: str
    token: str
    sid: str
    expires: float


@frozen
class Relayed(Event):
    """Request ``nonce`` has reached the MCP server, with ``token``."""

    nonce: str
    token: str


@frozen
class Echoed(Event):
    """The answer to request ``nonce`` came; it says which request the server had seen, and which token."""

    nonce: str
    token: str
    seen_nonce: str
    seen_token: str


@frozen
class Refused(Event):
    """Request ``nonce`` was answered 401."""

    nonce: str


@frozen
class Streamed(Event):
    """An event of a stream arrived, at once; ``sid`` is the session that it was opened with.

    A client that has not read for a while cannot know when its events were sent: then ``sid`` is empty.
    """

    stream: str
    number: int
    sid: str = ""


@frozen
class Forgot(Event):
    """The store has lost everything: which refresh tokens were used is known to the realm alone."""


@frozen
class Ending(Event):
    """Session ``sid`` is about to end: what happens to it from now on may be its end."""

    sid: str


@frozen
class LoggedOut(Event):
    """The proxy has taken note that session ``sid`` is over."""

    sid: str


@frozen
class Tried(Event):
    """A client's step began at ``began`` and has ended now: well, or with ``trouble``."""

    what: str
    began: Moment
    trouble: str = ""


@frozen
class Recovery(Event):
    """Everything was tried after the last fault; ``missing`` is what still did not work in time."""

    took: float
    missing: str = ""


@frozen
class Entry:
    """One line of the history."""

    at: Moment
    event: Event

    def line(self, began: Moment) -> str:
        """Return it for a reader; ``began`` is when the run did."""
        event = self.event
        told = " ".join(
            f"{one.name}={_shown(getattr(event, one.name))}"
            for one in fields(type(event))
            if one.name != "actor" and getattr(event, one.name) != ""
        )
        return f"{self.at.wall - began.wall:8.3f} {event.actor:<12} {type(event).__name__:<10} {told}"


def _shown(value: object) -> str:
    return f"{value.wall:.3f}" if isinstance(value, Moment) else str(value)


class History:
    """The latest events."""

    def __init__(self, began: Moment) -> None:
        self.began = began
        self._entries: deque[Entry] = deque(maxlen=KEPT)

    def add(self, at: Moment, event: Event) -> None:
        """Remember an event."""
        self._entries.append(Entry(at, event))

    def around(self, at: Moment, before: float, after: float) -> Iterator[str]:
        """Yield the lines from ``before`` seconds before until ``after`` seconds after ``at``."""
        for entry in self._entries:
            if at.wall - before <= entry.at.wall <= at.wall + after:
                yield entry.line(self.began)
