"""Clients that never rest: each logs in, refreshes, calls and streams, in an order of its own."""

from __future__ import annotations

import contextlib
from random import Random
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from tests.chaos.history import Moment, Streamed, Tried
from tests.chaos.http import EventStream, Lost, StreamEvent
from tests.chaos.invariants import AFTER_THE_END
from tests.chaos.sessions import Member, Session, Trouble

if TYPE_CHECKING:
    from tests.chaos.world import World

#: Seconds between two steps of a client, at most.
PAUSE = 0.3
#: Seconds before its end in which an access token is used no more, as careful clients do.
RENEW = 1.5
#: Seconds for which a session that has ended is still tried.
AFTERWARDS = 3.0
#: What must work for everybody after the last fault: sessions of before first.
STEPS = ("refresh", "call", "stream", "log in")
#: What clients try besides.
OTHERS = ("steal", "call with an old token", "end the session", "revoke")
#: What they try once a refresh token was used long enough ago: in runs that take a minute.
REUSE = "reuse a refresh token"
#: Access tokens that are kept to be tried when they have expired.
_OLD = 3


class Client:
    """One client. ``worked`` says when each of its steps last began and then worked."""

    def __init__(
        self, world: World, name: str, seed: str, pause: float = PAUSE, *, ends: bool = True
    ) -> None:
        self.pause = pause
        #: Whether it ends its sessions: what is under way with one that ends is cut.
        self.ends = ends
        self.world = world
        self.name = name
        self.random = Random(f"{seed} {name}")
        self.member = Member(world, name, self.random)
        self.others: list[Member] = []
        self.worked: dict[str, Moment] = {}
        self.counts: dict[str, int] = {}
        #: Set to the moment since which every step must be tried again, at once.
        self.hurry: Moment | None = None
        self._old: list[str] = []
        self._streamed = 0
        self._until = 0.0
        self._streams_of = ""

    def missing(self, since: Moment) -> list[str]:
        """Return the steps that have not worked since."""
        return [step for step in STEPS if step not in self.worked or self.worked[step].pace < since.pace]

    async def live(self) -> None:
        """Take one step after the other until the run ends."""
        while not self.world.stopping:
            step = self._choose()
            await self.tried(step)
            await self.world.sleep(0.02 if self.hurry is not None else self.random.uniform(0, self.pause))

    def _choose(self) -> str:
        session = self.member.session
        if self.hurry is None and self.member.ended and self.world.pace.now().pace < self._until:
            return AFTER_THE_END
        if session is None:
            return "log in"
        if self.hurry is not None:
            wanted = [step for step in self.missing(self.hurry) if step != "stream"]
            if wanted:
                return wanted[0]
        if session.expires - self.world.pace.now().wall < RENEW:
            return "refresh"
        if self.ends and self.hurry is None:
            if self.member.reusable() is not None:
                return REUSE
            if not self.member.left and session.spent:
                return "log in"  # and leave a session behind that gets old enough
        weights = (2, 8, 0, 1, 1, 1, self.ends, 0.5 * self.ends)
        return self.random.choices((*STEPS, *OTHERS), weights)[0]

    async def tried(self, step: str) -> None:
        """Take one step and tell how it went."""
        began, trouble = self.world.pace.now(), ""
        try:
            await self._take(step)
        except (Lost, Trouble, AssertionError) as error:
            trouble = str(error)[:300] or type(error).__name__
        self._ended(step, began, trouble)

    def _ended(self, step: str, began: Moment, trouble: str) -> None:
        self.world.saw(Tried(self.name, step, began, trouble))
        if not trouble:
            self.counts[step] = self.counts.get(step, 0) + 1
            self.worked[step] = began

    async def _take(self, step: str) -> None:
        member = self.member
        if step == "log in":
            await member.log_in()
        elif step == "refresh":
            if member.session is not None:
                self._old = [*self._old[-_OLD:], member.session.access]
            await member.refresh_session()
        elif step == "steal":
            await member.steal(self.random.choice(self.others))
        elif step in ("end the session", "revoke"):
            await member.end(by_the_client=step == "revoke")
            self._until = self.world.pace.now().pace + AFTERWARDS
        elif step == REUSE:
            await member.reuse_late()
            self._until = self.world.pace.now().pace + AFTERWARDS
        elif step == AFTER_THE_END:
            await member.call_after_the_end()
        elif step == "call with an old token":
            await member.make_call(self._old[0] if self._old else None)
        else:
            await member.make_call(hold=self.random.choice((0, 0, 0.3)))

    async def stream(self) -> None:
        """Have a stream all the time, and come back to it wherever it ended."""
        while not self.world.stopping:
            session = self.member.session
            if session is None or session.expires - self.world.pace.now().wall < RENEW:
                await self.world.sleep(0.05)
                continue
            await self._stream_once(session)
            await self.world.sleep(0.05 if self.hurry is not None else self.random.uniform(0, PAUSE))

    async def _stream_once(self, session: Session) -> None:
        stream = EventStream(self.world, self._event)
        self._streams_of = session.sid
        with contextlib.suppress(Lost):
            status = await stream.open(session.access, self.name, self._streamed)
            if status == 200:
                if self.random.random() < 0.3:
                    self._streams_of = ""
                    stream.dawdle(self.random.uniform(1, 3))
                self.world.reactor.callLater(self.random.uniform(3, 12), stream.leave)
                await stream.ended

    def _event(self, event: StreamEvent) -> None:
        now = self.world.pace.now()
        self._streamed = event.number
        self.world.saw(Streamed(self.name, event.data["stream"], event.number, self._streams_of))
        self.worked["stream"] = now
        self.counts["stream"] = self.counts.get("stream", 0) + 1


def begin(clients: list[Client]) -> list[Deferred[None]]:
    """Let clients live; return what fires when each has ended."""
    for client in clients:
        client.others = [other.member for other in clients if other is not client]
    return [Deferred.fromCoroutine(life) for client in clients for life in (client.live(), client.stream())]
