"""The process that holds the socket and looks after the workers; it serves nobody itself."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mcp_oauth2_proxy.config.load import Loaded
from mcp_oauth2_proxy.ops.signals import on_next_signal
from mcp_oauth2_proxy.ops.systemd import ServiceManager
from mcp_oauth2_proxy.wire.listening import CannotListen, name_of, open_sockets
from mcp_oauth2_proxy.workers.crew import describe_end, in_the_way, next_pause
from mcp_oauth2_proxy.workers.member import Member
from mcp_oauth2_proxy.workers.messages import Start
from mcp_oauth2_proxy.workers.shares import needs_private_store
from mcp_oauth2_proxy.workers.turnstile import Counts

#: What a process ends with whose configuration cannot be used: another one would do the same.
EXIT_CONFIG = 2
#: Seconds between two looks at the workers.
LOOK_EVERY = 1.0
#: Looks after which a worker that says nothing is taken for dead; it says something every second. Looks
#: and not seconds, so that a machine that slept, or a container that was paused, kills nobody.
MAX_SILENCE = 30
#: Seconds that a worker has beyond ``server.shutdownGrace`` before it is killed.
GRACE_MARGIN = 3.0


class Supervisor(Service):
    """``workers`` processes on one listening socket.

    The socket is bound once, here: a port that is taken is told once, a connection that arrives while a
    worker is replaced waits in the kernel for another, and all accept from the same queue, so that a dead
    worker takes along no connection but its own (with ``SO_REUSEPORT`` each had a queue of its own, which
    dies with it).

    ``on_fatal`` is called as :class:`~mcp_oauth2_proxy.service.ProxyService` calls it. ``output`` is what
    the workers have for standard output and error; with ``None`` what they write becomes lines of the
    supervisor's log.
    """

    _log = Logger()

    def __init__(
        self,
        loaded: Loaded,
        workers: int,
        reactor: Any,
        *,
        on_fatal: Callable[[str], None],
        descriptors: Sequence[int] = (),
        manager: ServiceManager,
        output: tuple[int, int] | None = (1, 2),
    ) -> None:
        self._loaded = loaded
        self._workers = workers
        self._reactor = reactor
        self._on_fatal = on_fatal
        self._descriptors = descriptors
        self._manager = manager
        self._output = output
        self._sockets: list[socket.socket] = []
        self._directory: str | None = None
        self._counts, self._shared = Counts.create(workers)
        #: By number; who has ended and is not yet replaced is not here.
        self._members: dict[int, Member] = {}
        #: The last pause of each number, and the replacements to come.
        self._pauses: dict[int, float] = {}
        self._replacing: dict[int, IDelayedCall] = {}
        #: Who has ever listened; whether all have, and whether any was ready.
        self._listened: set[int] = set()
        self._was_ready = False
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self._failed = False
        self._stopping = False
        self._gone: Deferred[None] | None = None

    def startService(self) -> None:
        """Bind the socket and start the workers."""
        super().startService()
        config = self._loaded.config
        try:
            self._sockets = open_sockets(config.server.listen_address, self._descriptors)
            if needs_private_store(config, self._workers):
                # Readable for this user alone, as mkdtemp makes it.
                self._directory = tempfile.mkdtemp(prefix="mcp-oauth2-proxy-")
        except CannotListen as error:
            self._fatal(str(error))
            return
        except OSError as error:
            self._fatal(
                "store.url: memory:// with more than one worker needs a directory for temporary files: "
                f"{error.strerror} (set TMPDIR, or another store.url)"
            )
            return
        self._log.info(
            "{workers} workers on {address}",
            workers=self._workers,
            address=", ".join(map(name_of, self._sockets)),
        )
        for number in range(1, self._workers + 1):
            self._start_worker(number)
        self._looking.start(LOOK_EVERY, now=False)

    def stopService(self) -> Deferred[None]:
        """Close the socket, have every worker drain, and fire when the last has ended."""
        super().stopService()
        self._stopping = True
        self._manager.stopping()
        for call in self._replacing.values():
            call.cancel()
        for listening in self._sockets:
            listening.close()
        self._log.info("stopping: {count} workers drain", count=len(self._members))
        for member in self._members.values():
            member.dismiss()
        limit = self._loaded.config.server.shutdown_grace + GRACE_MARGIN
        patience = self._reactor.callLater(limit, self._cut, "the grace is over")
        on_next_signal(self._reactor, lambda: self._cut("a second signal came"))
        self._gone = Deferred()
        if not self._members:
            self._gone.callback(None)
        return self._gone.addCallback(self._stopped, patience)

    def _stopped(self, _: None, patience: IDelayedCall) -> None:
        if patience.active():
            patience.cancel()
        if self._looking.running:
            self._looking.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        os.close(self._shared)
        self._manager.stopped()
        self._log.info("all workers have ended")

    def _cut(self, why: str) -> None:
        for member in self._members.values():
            self._log.warn("killing worker {worker}: {why}", worker=member.number, why=why)
            member.kill()

    def _start_worker(self, number: int) -> None:
        """Start a worker; who joins others takes connections once it is ready, the first ones at once."""
        self._replacing.pop(number, None)
        member = Member(number, born=self._reactor.seconds(), on_report=self._reported, on_end=self._ended)
        start = Start(
            number=number,
            workers=self._workers,
            said=self._loaded.said,
            private_store=self._directory and os.path.join(self._directory, "store.db"),
            sockets=len(self._sockets),
            listens=not any(self._listening(other) for other in self._members.values()),
        )
        self._members[number] = member
        try:
            member.start(
                self._reactor, start, counts=self._shared, sockets=self._sockets, output=self._output
            )
        except OSError as error:
            del self._members[number]
            self._replace(number, f"cannot be started: {error}", lived=0.0)
            return
        self._log.info("worker {worker} is process {pid}", worker=number, pid=member.pid)

    @staticmethod
    def _listening(member: Member) -> bool:
        return member.report is not None and member.report.listens

    def _reported(self, member: Member) -> None:
        report = member.report
        assert report is not None  # noqa: S101 (it has just come)
        if report.listens:
            self._listened.add(member.number)
            self._was_ready = self._was_ready or not report.reasons
            if self._complete:
                self._manager.ready(self._reactor, self._status)
        self._tell_all()

    @property
    def _complete(self) -> bool:
        return len(self._listened) == self._workers

    def _reports(self) -> dict[int, Any]:
        return {
            number: self._members[number].report if number in self._members else None
            for number in range(1, self._workers + 1)
        }

    def _tell_all(self) -> None:
        reports = self._reports()
        for member in self._members.values():
            member.tell_others(in_the_way(reports, complete=self._complete, but=member.number))

    def _status(self) -> str:
        return "\n".join(in_the_way(self._reports(), complete=self._complete)) or "ready"

    def _ended(self, member: Member, exit_code: int | None, signal_number: int | None) -> None:
        del self._members[member.number]
        self._counts.leave(member.number)
        how = describe_end(exit_code, signal_number)
        if self._stopping:
            if exit_code != 0:
                self._log.warn("worker {worker} {how}", worker=member.number, how=how)
            if not self._members and self._gone is not None:
                self._gone.callback(None)
            return
        if exit_code == EXIT_CONFIG and not self._was_ready:
            self._fatal(f"worker {member.number} cannot work with this configuration")
            return
        self._replace(member.number, how, lived=self._reactor.seconds() - member.born)
        # Nobody is left to take connections while those that are to come wait until they are ready.
        if not any(self._listening(other) for other in self._members.values()):
            for other in self._members.values():
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
        self._replacing[number] = self._reactor.callLater(pause, self._start_worker, number)

    def _look(self) -> None:
        """Kill who has hung, and bury whoever was left to us."""
        for member in self._members.values():
            member.silent += 1
            if member.silent == MAX_SILENCE:
                self._log.error(
                    "worker {worker} has said nothing for {silent} looks: killing it",
                    worker=member.number,
                    silent=member.silent,
                )
                member.kill()
        if os.getpid() == 1:
            self._bury_strangers()

    def _bury_strangers(self) -> None:
        """As the first process of a container we inherit orphans, and their ends are ours to take note of."""
        ours = {member.pid for member in self._members.values()}
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if dead is None or dead.si_pid in ours:
                return
            os.waitpid(dead.si_pid, os.WNOHANG)

    def _fatal(self, message: str) -> None:
        self._log.critical("{message}", message=message)
        if not self._failed:
            self._failed = True
            self._on_fatal(message)
