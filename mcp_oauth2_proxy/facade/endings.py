"""The endings of sessions that all workers and replicas share.

An ending is applied here at once, put into the store, and told to everybody. The store holds a log of them:
``ending:<hour>:<number>``, each number claimed once by :meth:`Vault.add`, an hour's entries expiring
together. Whoever was away (a start, a connection to the store that was lost) reads the log on from where it
was; everybody does so every two seconds, should a message have been lost unnoticed.

A store may lose all that it holds: a Redis that keeps nothing and starts again. ``ending:log`` has a name
that the log got when it was begun. Where it is another one, everybody reads from the beginning, and what they
know and do not find there they write down again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import asdict
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mcp_oauth2_proxy.facade.errors import OAuthError, Reason, unavailable
from mcp_oauth2_proxy.facade.sealing import Purpose
from mcp_oauth2_proxy.facade.vault import Vault
from mcp_oauth2_proxy.gate.endings import Ending, Endings
from mcp_oauth2_proxy.stores.interfaces import Unsubscribe

CHANNEL = "endings"
LOG = "ending:log"
#: Seconds of one part of the log. Clocks of replicas may differ by as much.
PART = 3600
#: Seconds between two looks into the log: usually, and where the store did not answer.
READ_EVERY, READ_AGAIN = 2.0, 1.0
#: Attempts to write one down while others do the same.
MAX_CLAIMS = 1000
#: Endings kept for a store that does not answer; older ones have reached this process alone.
MAX_UNSAVED = 10_000


class SharedEndings:
    """``known`` in step with all other processes. ``on_news`` is called when something has ended."""

    _log = Logger()

    def __init__(
        self,
        known: Endings,
        *,
        vault: Vault,
        clock: IReactorTime,
        random: Callable[[], str],
        on_news: Callable[[], object],
    ) -> None:
        self.known = known
        self._vault = vault
        self._clock = clock
        self._random = random
        self._on_news = on_news
        #: The name of the log, until when it is kept, and what is in it.
        self._log_name: bytes | None = None
        self._log_kept = 0.0
        self._logged = Endings(remember=known.remember)
        #: The number of the next entry to read in each part of the log.
        self._next: dict[int, int] = {}
        #: When the log, as it is now, was last read to its end, and whether it ever was.
        self._read_at: float | None = None
        self._is_ready = False
        self._has_warned = False
        self._reading: Deferred[None] | None = None
        self._read_again = False
        self._next_read: IDelayedCall | None = None
        #: Fires, for one who waits, once the log has been read, or could not be.
        self.first_look: Deferred[None] = Deferred()
        self._unsaved: dict[Ending, None] = {}
        self._subscribing: Deferred[Unsubscribe] | None = None
        self._running = False

    def start(self) -> None:
        """Learn what ended before, and from now on hear what ends."""
        self._running = True
        self._subscribing = self._vault.listen(
            CHANNEL, Purpose.ENDING, self.known.remember, self._heard, self._read
        )
        # What is told before the subscription has begun is in the log by then.
        self._subscribing.addCallbacks(lambda _: self._read(), self._failed)
        self._read()

    def stop(self) -> None:
        """Stop listening and reading: nothing is left on the clock."""
        self._running = False
        if self._next_read is not None and self._next_read.active():
            self._next_read.cancel()
        for under_way in (self._subscribing, self._reading):
            if under_way is not None:
                under_way.cancel()

    def unready(self) -> str | None:
        """Return why requests should not come here yet; ``None`` once all earlier endings are known."""
        return None if self._is_ready else "endings of sessions have not been read from the store"

    def check_lifetime(self, seconds: float | None) -> None:
        """Warn, once, where access tokens live for so many ``seconds`` that they outlive their endings."""
        if seconds is not None and seconds > self.known.remember and not self._has_warned:
            self._has_warned = True
            self._log.warn(
                "access tokens live for {seconds} s, and gate.rememberLogouts is {remember:g} s: "
                "what a logout has ended would be good again",
                seconds=seconds,
                remember=self.known.remember,
            )

    async def end(self, ending: Ending) -> None:
        """End a session, or all of a subject's, everywhere.

        Raises 503 (:exc:`OAuthError`) where the store does not answer: then it has ended in this process,
        and in all others as soon as the store is back, though the caller has left. To end it again does no
        harm.
        """
        self._apply([ending])
        try:
            await self._spread(ending)
        except Exception:
            if len(self._unsaved) < MAX_UNSAVED:
                self._unsaved[ending] = None
            if self._running and self._reading is None:
                self._read_in(READ_AGAIN)
            raise

    async def _spread(self, ending: Ending) -> None:
        await self._save(ending)
        await self._vault.tell(CHANNEL, Purpose.ENDING, asdict(ending))

    async def _save(self, ending: Ending) -> None:
        now = self._clock.seconds()
        part = int(now // PART)
        for _ in range(MAX_CLAIMS):
            # Everybody's claim is one number further: reading there is also learning what they ended.
            await self._read_part(part)
            if self._logged.has(ending):
                return
            key = _key(part, self._next.get(part, 0))
            if await self._vault.add(key, Purpose.ENDING, asdict(ending), self._lifetime(part)):
                return
        raise unavailable(
            "the server cannot do this at the moment", Reason.STORE_DOWN, f"{key} is not to be had"
        )

    def _lifetime(self, part: int) -> float:
        return (part + 1) * PART + self.known.remember - self._clock.seconds()

    def _heard(self, record: Mapping[str, Any]) -> None:
        self._apply([_ending(record)])

    def _apply(self, endings: list[Ending]) -> None:
        now = self._clock.seconds()
        news = [ending for ending in endings if self.known.add(ending, now)]
        if news:
            self._on_news()

    def _read(self) -> None:
        """Read the log to its end now; when that is under way already, once more after it."""
        if not self._running:
            return
        if self._reading is not None:
            self._read_again = True
            return
        self._read_again = False
        self._reading = reading = Deferred.fromCoroutine(self._read_all())
        reading.addBoth(self._was_read)

    def _was_read(self, result: Failure | None) -> None:
        self._reading = None
        if not self.first_look.called:
            self.first_look.callback(None)
        if isinstance(result, Failure) and not result.check(OAuthError, CancelledError):
            self._log.failure("endings cannot be read", failure=result)
        if self._running:
            self._read_in(
                READ_AGAIN if isinstance(result, Failure) else 0 if self._read_again else READ_EVERY
            )

    def _read_in(self, seconds: float) -> None:
        if self._next_read is not None and self._next_read.active():
            self._next_read.cancel()
        self._next_read = self._clock.callLater(seconds, self._read)

    async def _read_all(self) -> None:
        now = self._clock.seconds()
        await self._open_log(now)
        since = now - self.known.remember if self._read_at is None else self._read_at
        for part in range(int(since // PART) - 1, int(now // PART) + 2):
            await self._read_part(part)
        if self._read_at is None:
            self._unsaved |= {ending: None for ending in self.known if not self._logged.has(ending)}
        for ending in list(self._unsaved):
            await self._spread(ending)
            self._unsaved.pop(ending, None)
        self._read_at, self._is_ready = now, True
        self._next = {part: number for part, number in self._next.items() if part >= now // PART - 1}
        self._logged.forget(now)
        dropped = self.known.forget(now)
        if dropped:
            self._log.warn(
                "more sessions have ended than are kept in mind: the {dropped} oldest are forgotten",
                dropped=dropped,
            )

    async def _open_log(self, now: float) -> None:
        """See to it that the log has a name; begin to read anew where it is not the one that was read."""
        ttl = self.known.remember + 2 * PART
        name = await self._vault.marked(LOG)
        if name is None:
            await self._vault.claim(LOG, self._random().encode("ascii"), ttl)
            name = await self._vault.marked(LOG)
        if name != self._log_name:
            self._log_name, self._log_kept, self._read_at = name, now + ttl, None
            self._next.clear()
            self._logged = Endings(remember=self.known.remember)
        if name is not None and self._log_kept - now < ttl - PART:
            await self._vault.mark(LOG, name, ttl)
            self._log_kept = now + ttl

    async def _read_part(self, part: int) -> None:
        found: list[Ending] = []
        number = self._next.get(part, 0)
        while (sealed := await self._vault.marked(_key(part, number))) is not None:
            record = self._vault.opened(Purpose.ENDING, sealed, self.known.remember)
            if record is not None:  # else it was sealed with a key that is gone
                found.append(_ending(record))
            number += 1
        self._next[part] = max(number, self._next.get(part, 0))
        for ending in found:
            self._logged.add(ending, self._clock.seconds())
        self._apply(found)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("cannot listen for endings", failure=failure)


def _key(part: int, number: int) -> str:
    return f"ending:{part}:{number}"


def _ending(record: Mapping[str, Any]) -> Ending:
    return Ending(**record)
