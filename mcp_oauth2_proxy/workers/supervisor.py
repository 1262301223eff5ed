"""The process that holds the socket and looks after the workers; it serves nobody itself."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mcp_oauth2_proxy.config.load import Loaded
from mcp_oauth2_proxy.config.problems import ConfigError
from mcp_oauth2_proxy.ops.signals import on_signals
from mcp_oauth2_proxy.ops.systemd import ServiceManager
from mcp_oauth2_proxy.wire.listening import CannotListen, name_of, open_sockets
from mcp_oauth2_proxy.workers.member import Member
from mcp_oauth2_proxy.workers.messages import Start
from mcp_oauth2_proxy.workers.private import PrivateDirectory
from mcp_oauth2_proxy.workers.roster import Roster
from mcp_oauth2_proxy.workers.shares import needs_private_store
from mcp_oauth2_proxy.workers.turnstile import Counts

#: Seconds between two looks at the workers.
LOOK_EVERY = 1.0
#: Seconds that a worker has beyond ``server.shutdownGrace`` before it is killed.
GRACE_MARGIN = 3.0


class Supervisor(Service):
    """``workers`` processes on one listening socket.

    The socket is bound once, here: a port that is taken is told once, a connection that arrives while a
    worker is replaced waits in the kernel for another, and all accept from the same queue, so that a dead
    worker takes along no connection but its own (with ``SO_REUSEPORT`` each had a queue of its own, which
    dies with it).

    ``on_fatal`` is called as :class:`~mcp_oauth2_proxy.service.ProxyService` calls it. ``reload`` returns the
    configuration as it is said now, for SIGHUP; it may raise :exc:`ConfigError`. ``output`` is what
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
        reload: Callable[[], Loaded],
        descriptors: Sequence[int] = (),
        manager: ServiceManager,
        output: tuple[int, int] | None = (1, 2),
    ) -> None:
        self._loaded = loaded
        self._workers = workers
        self._reactor = reactor
        self._on_fatal = on_fatal
        self._load = reload
        self._descriptors = descriptors
        self._manager = manager
        self._output = output
        self._sockets: list[socket.socket] = []
        self._private: PrivateDirectory | None = None
        self._counts, self._shared = Counts.create(workers)
        self._roster = Roster(
            workers,
            reactor,
            start=self._start_process,
            on_left=self._counts.leave,
            on_up=lambda: manager.ready(reactor, self._status),
            on_unusable=self._fatal,
        )
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self._failed = False

    def startService(self) -> None:
        """Bind the socket and start the workers."""
        super().startService()
        try:
            self._sockets = open_sockets(self._loaded.config.server.listen_address, self._descriptors)
            self._make_room()
        except CannotListen as error:
            self._fatal(str(error))
            return
        except OSError as error:
            self._fatal(_no_room(error))
            return
        self._log.info(
            "{workers} workers on {address}",
            workers=self._workers,
            address=", ".join(map(name_of, self._sockets)),
        )
        self._roster.begin()
        self._looking.start(LOOK_EVERY, now=False)
        self._reactor.callWhenRunning(on_signals, self._reactor, [signal.SIGHUP], self.reload)

    def reload(self) -> None:
        """Read the configuration again, and have every worker succeeded by one that runs with it.

        The socket stays open all the while, so that no connection is refused. With a configuration that
        cannot be used everything stays as it was.
        """
        before = self._loaded
        try:
            self._loaded = self._load()
            self._make_room()
        except ConfigError as error:
            self._loaded = before
            for problem in error.problems:
                self._log.error("configuration: {problem}", problem=str(problem))
            self._log.error("the configuration cannot be used: going on with the old one")
            return
        except OSError as error:
            self._loaded = before
            self._log.error("{problem}: going on with the old configuration", problem=_no_room(error))
            return
        server, old = self._loaded.config.server, before.config.server
        if (server.listen_address, server.workers) != (old.listen_address, old.workers):
            self._log.warn("server.listenAddress and server.workers change with a restart, not with SIGHUP")

        def undo() -> None:
            self._loaded = before

        if self._roster.roll(undo):
            self._log.info("replacing the workers one after the other, with the configuration as it is now")
        else:
            undo()
            self._log.warn("the workers are being replaced, or stopped, already")

    def stopService(self) -> Deferred[None]:
        """Close the socket, have every worker drain, and fire when the last has ended."""
        super().stopService()
        self._manager.stopping()
        for listening in self._sockets:
            listening.close()
        self._log.info("stopping: {count} workers drain", count=len(self._roster.everybody))
        limit = self._loaded.config.server.shutdown_grace + GRACE_MARGIN
        patience = self._reactor.callLater(limit, self._roster.kill, "the grace is over")
        on_signals(
            self._reactor,
            [signal.SIGTERM, signal.SIGINT],
            lambda: self._roster.kill("a second signal came"),
        )
        gone: Deferred[None] = Deferred()
        self._roster.end(lambda: gone.callback(None))
        return gone.addCallback(self._stopped, patience)

    def _stopped(self, _: None, patience: IDelayedCall) -> None:
        if patience.active():
            patience.cancel()
        if self._looking.running:
            self._looking.stop()
        if self._private is not None:
            self._private.remove()
        os.close(self._shared)
        self._manager.stopped()
        self._log.info("all workers have ended")

    def _make_room(self) -> None:
        """Make the directory of the private store where one is needed; raises ``OSError``."""
        if self._private is None and needs_private_store(self._loaded.config, self._workers):
            self._private = PrivateDirectory()

    def _start_process(self, member: Member, listens: bool) -> None:
        private = self._private if needs_private_store(self._loaded.config, self._workers) else None
        start = Start(
            number=member.number,
            workers=self._workers,
            said=self._loaded.said,
            private_store=private.store if private else None,
            sockets=len(self._sockets),
            listens=listens,
        )
        member.start(self._reactor, start, counts=self._shared, sockets=self._sockets, output=self._output)

    def _status(self) -> str:
        return "\n".join(self._roster.in_the_way()) or "ready"

    def _look(self) -> None:
        self._roster.look()
        if os.getpid() == 1:
            self._bury_strangers()

    def _bury_strangers(self) -> None:
        """As the first process of a container we inherit orphans, and their ends are ours to take note of."""
        ours = {member.pid for member in self._roster.everybody}
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


def _no_room(error: OSError) -> str:
    return (
        "store.url: memory:// with more than one worker needs a directory for temporary files: "
        f"{error.strerror} (set TMPDIR, or another store.url)"
    )
