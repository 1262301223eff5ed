"""Who of the workers serves, who is to succeed whom, and who is leaving."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mcp_oauth2_proxy.workers.crew import describe_end, in_the_way, next_pause
from mcp_oauth2_proxy.workers.member import Member
from mcp_oauth2_proxy.workers.messages import Report

#: What a process ends with whose configuration cannot be used: another one would do the same.
EXIT_CONFIG = 2
#: Looks after which a worker that says nothing is taken for dead; it says something every second. Looks
#: and not seconds, so that a machine that slept, or a container that was paused, kills nobody.
MAX_SILENCE = 30
#: Looks that it has until it says anything: a start takes a second of CPU, of which there may be little.
MAX_START = 300


class Roster:
    """``size`` workers, by number from 1.

    ``start(member, listens)`` starts a worker's process, which takes connections at once or when it is
    ready; it may raise ``OSError``. ``on_left`` hears the number of a worker that has ended, ``on_up`` that
    something was reported while all serve, and ``on_unusable`` why none of them ever can.
    """

    _log = Logger()

    def __init__(
        self,
        size: int,
        clock: IReactorTime,
        *,
        start: Callable[[Member, bool], None],
        on_left: Callable[[int], None],
        on_up: Callable[[], None],
        on_unusable: Callable[[str], None],
    ) -> None:
        self._size = size
        self._clock = clock
        self._start = start
        self._on_left = on_left
        self._on_up = on_up
        self._on_unusable = on_unusable
        #: Who has ended and is not yet replaced is not here.
        self._serving: dict[int, Member] = {}
        self._successor: Member | None = None
        self._leaving: set[Member] = set()
        #: The last pause of each number, and the replacements to come.
        self._pauses: dict[int, float] = {}
        self._replacing: dict[int, IDelayedCall] = {}
        #: Who has ever listened, and whether anybody was ready.
        self._listened: set[int] = set()
        self._was_ready = False
        #: Whose turn it is to be succeeded, and what to do when that fails.
        self._turns: list[int] = []
        self._on_failure: Callable[[], None] = _nothing
        self._on_empty: Callable[[], None] | None = None

    @property
    def everybody(self) -> list[Member]:
        """Return all whose process has not ended."""
        successors = [] if self._successor is None else [self._successor]
        return [*self._serving.values(), *successors, *self._leaving]

    def begin(self) -> None:
        """Start all."""
        for number in range(1, self._size + 1):
            self._add(number)

    def end(self, on_empty: Callable[[], None]) -> None:
        """Have all drain; ``on_empty`` hears when the last has ended. Nobody is replaced any more."""
        self._on_empty = on_empty
        self._turns.clear()
        for call in self._replacing.values():
            call.cancel()
        for member in self.everybody:
            member.dismiss()
        if not self.everybody:
            on_empty()

    def kill(self, why: str) -> None:
        """End all at once."""
        for member in self.everybody:
            self._log.warn("killing worker {worker}: {why}", worker=member.number, why=why)
            member.kill()

    def roll(self, on_failure: Callable[[], None]) -> bool:
        """Put a new worker in the place of each, one after the other: it is ready before the old one drains.

        ``on_failure`` hears that a new one has ended before that; those whose turn had not come stay.
        Returns ``False`` where that is already going on.
        """
        if self._turns or self._on_empty is not None:
            return False
        self._turns = list(range(1, self._size + 1))
        self._on_failure = on_failure
        self._next_turn()
        return True

    def look(self) -> None:
        """Kill who has hung: called once a second."""
        for member in self.everybody:
            member.silent += 1
            if member.silent == (MAX_START if member.report is None else MAX_SILENCE):
                self._log.error(
                    "worker {worker} has said nothing for {silent} looks: killing it",
                    worker=member.number,
                    silent=member.silent,
                )
                member.kill()

    def in_the_way(self) -> list[str]:
        """Return what keeps the whole from being ready, a line each."""
        return in_the_way(self._reports(), complete=self._complete)

    @property
    def _complete(self) -> bool:
        return len(self._listened) == self._size

    def _reports(self) -> Mapping[int, Report | None]:
        numbers = range(1, self._size + 1)
        return {
            number: self._serving[number].report if number in self._serving else None for number in numbers
        }

    def _somebody_listens(self) -> bool:
        return any(member.listens for member in self._serving.values())

    def _begin(self, number: int, *, listens: bool) -> Member | None:
        member = Member(number, born=self._clock.seconds(), on_report=self._reported, on_end=self._ended)
        try:
            self._start(member, listens)
        except OSError as error:
            self._log.error("worker {worker} cannot be started: {error}", worker=number, error=error)
            return None
        self._log.info("worker {worker} is process {pid}", worker=number, pid=member.pid)
        return member

    def _add(self, number: int) -> None:
        """Start a worker; who joins others takes connections once it is ready, the first ones at once."""
        self._replacing.pop(number, None)
        member = self._begin(number, listens=not self._somebody_listens())
        if member is None:
            self._replace(number, "has no process", lived=0.0)
        else:
            self._serving[number] = member

    def _reported(self, member: Member) -> None:
        if member is self._successor and member.listens:
            self._succeed(member)
        serves = member.listens and member not in self._leaving
        if serves:
            self._listened.add(member.number)
            self._was_ready = self._was_ready or (member.report is not None and not member.report.reasons)
        # First the workers: who hears from us that all are up may ask any of them.
        self._tell_all()
        if serves and self._complete:
            self._on_up()

    def _tell_all(self) -> None:
        reports = self._reports()
        for member in self.everybody:
            member.tell_others(in_the_way(reports, complete=self._complete, but=member.number))

    def _ended(self, member: Member, exit_code: int | None, signal_number: int | None) -> None:
        how = describe_end(exit_code, signal_number)
        number = member.number
        served = self._serving.get(number) is member
        if served:
            del self._serving[number]
            self._on_left(number)
        self._leaving.discard(member)
        failed = member is self._successor
        if failed:
            self._successor = None
        if self._on_empty is not None:
            if exit_code != 0:
                self._log.warn("worker {worker} {how}", worker=number, how=how)
            if not self.everybody:
                self._on_empty()
        elif failed:
            self._fail_turn(how)
        elif served:
            self._lost(member, exit_code, how)

    def _lost(self, member: Member, exit_code: int | None, how: str) -> None:
        """Somebody who served has ended, and nobody told it to."""
        if exit_code == EXIT_CONFIG and not self._was_ready:
            self._on_unusable(f"worker {member.number} cannot work with this configuration")
            return
        if self._successor is None or self._successor.number != member.number:
            self._replace(member.number, how, lived=self._clock.seconds() - member.born)
        else:
            self._log.error(
                "worker {worker} {how} before its successor was ready", worker=member.number, how=how
            )
        # Nobody is left to take connections while those that are to come wait until they are ready.
        if not self._somebody_listens():
            for other in self.everybody:
                other.listen()
        self._tell_all()

    def _replace(self, number: int, how: str, *, lived: float) -> None:
        pause = self._pauses[number] = next_pause(self._pauses.get(number, 0.0), lived)
        self._log.error(
            "worker {worker} {how} after {lived:.0f} s; another one starts in {pause:g} s",
            worker=number,
            how=how,
            lived=lived,
            pause=pause,
        )
        self._replacing[number] = self._clock.callLater(pause, self._add, number)

    def _next_turn(self) -> None:
        if not self._turns:
            self._log.info("every worker has been replaced")
            return
        self._successor = self._begin(self._turns[0], listens=False)
        if self._successor is None:
            self._fail_turn("has no process")

    def _succeed(self, member: Member) -> None:
        """The successor takes connections: who was there before takes no more."""
        self._successor = None
        before = self._serving.get(member.number)
        self._serving[member.number] = member
        if before is not None:
            self._leaving.add(before)
            before.dismiss()
        coming = self._replacing.pop(member.number, None)
        if coming is not None:
            coming.cancel()
        self._turns.pop(0)
        self._next_turn()

    def _fail_turn(self, how: str) -> None:
        number, self._turns = self._turns[0], []
        self._log.error("the new worker {worker} {how}: the others stay as they are", worker=number, how=how)
        if number not in self._serving and number not in self._replacing:
            self._replace(number, how, lived=0.0)
        self._on_failure()


def _nothing() -> None:
    pass
