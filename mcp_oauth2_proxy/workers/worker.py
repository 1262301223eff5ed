"""One worker: the service, and its link to the supervisor."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from mcp_oauth2_proxy.config.load import load_said
from mcp_oauth2_proxy.config.problems import ConfigError
from mcp_oauth2_proxy.service import ProxyService, run
from mcp_oauth2_proxy.workers.member import COUNTS, FIRST_SOCKET, LINK
from mcp_oauth2_proxy.workers.messages import MAX_LINE, Report, Start
from mcp_oauth2_proxy.workers.roster import EXIT_CONFIG
from mcp_oauth2_proxy.workers.shares import share_of
from mcp_oauth2_proxy.workers.turnstile import Counts, SharedPort, is_ahead

#: Seconds between two looks at the worker's own state; what has changed is reported.
LOOK_EVERY = 0.25
#: Looks after which it is reported unchanged: the supervisor wants to hear that the event loop turns.
LOOKS_A_REPORT = 4


def receive_start(link: socket.socket) -> tuple[Start, bytes]:
    """Wait for the supervisor's first line; return it, and what has come behind it.

    :raises EOFError: the supervisor is gone.
    """
    received = bytearray()
    while b"\n" not in received:
        piece = link.recv(65536)
        if not piece or len(received) > MAX_LINE:
            raise EOFError
        received += piece
    line, _, rest = bytes(received).partition(b"\n")
    return Start.decode(line), rest


class WorkerService(ProxyService):
    """The service as one of several, who share a socket and know how many connections each has."""

    number: int
    counts: Counts
    _counted = False
    #: Called when it has begun to take connections, which is news for the supervisor.
    on_listening: Callable[[], None] | None = None

    def listen(self) -> None:
        """See :class:`ProxyService`."""
        super().listen()
        if self.listens and self.on_listening is not None:
            self.on_listening()

    def adopt(self, listening: socket.socket) -> Port:
        """See :class:`ProxyService`."""
        return SharedPort.adopt(
            self._reactor, listening.fileno(), listening.family, self.site, self._is_ahead
        )

    def tell_count(self) -> None:
        """Tell the others how many connections this worker has, while it takes more."""
        if self.listens:
            self.counts.tell(self.number, len(self.site.connections))
        elif self._counted:
            self.counts.leave(self.number)  # once: the number may have a successor
        self._counted = self.listens

    def _is_ahead(self) -> bool:
        self.tell_count()
        return is_ahead(len(self.site.connections), self.counts.others(self.number))

    def hurry(self) -> None:
        """A second signal is the supervisor's business: it has had it too, or one of us was meant alone."""


class Link(LineOnlyReceiver):
    """The worker's end: reports how the service does, and does what it is told.

    ``stop`` drains and ends the process. It is called also when the supervisor is gone, for another one may
    want the port.
    """

    _log = Logger()
    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE

    def __init__(self, clock: IReactorTime, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._others = ["the supervisor has not said yet how the other workers do"]
        self._reported: Report | None = None
        self._looks = 0
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock
        self._service: WorkerService | None = None
        #: Whether the supervisor went first.
        self.orphaned = False

    def others(self) -> str | None:
        """Return what keeps the other workers from being ready: a probe of ``/readyz``."""
        return "\n".join(self._others) or None

    def serve(self, service: WorkerService) -> None:
        """Report how ``service`` does, from now on."""
        self._service = service
        service.on_listening = self._look
        self._looking.start(LOOK_EVERY)

    def lineReceived(self, line: bytes) -> None:
        """Do what the supervisor says."""
        match json.loads(line):
            case {"order": "others", "reasons": reasons}:
                self._others = reasons
            case {"order": "listen"} if self._service is not None:
                self._service.listen()
            case {"order": "drain"}:
                self._stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The supervisor is gone, unless the link ends with this process."""
        if self._looking.running:
            self._looking.stop()
        if self._service is not None and self._service.drained:
            return
        self.orphaned = True
        self._log.error("the supervisor is gone: draining")
        self._stop()

    def _look(self) -> None:
        service = self._service
        assert service is not None  # noqa: S101 (there is nothing to look at before)
        reasons = service.reasons()
        if not service.listens and not reasons:
            service.listen()  # it was waiting to be of use
        service.tell_count()
        report = Report(service.listens, tuple(reasons))
        self._looks += 1
        if report != self._reported or self._looks >= LOOKS_A_REPORT:
            self._looks = 0
            self._reported = report
            self.sendLine(report.encode())


def main() -> int:
    """Run the worker until it is told to end; return the process's exit code."""
    # A reload is the supervisor's business, and so is a terminal that goes away.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ours = socket.socket(fileno=LINK)
    try:
        start, rest = receive_start(ours)
    except EOFError:
        return 0
    try:
        loaded = load_said(start.said, os.environ)
    except ConfigError as error:
        sys.stderr.write("".join(f"configuration: {problem}\n" for problem in error.problems))
        return EXIT_CONFIG
    config = share_of(loaded.config, start.workers, start.private_store)
    links: list[Link] = []

    def make(reactor: Any, on_fatal: Callable[[str], None]) -> ProxyService:
        def stop() -> None:
            with suppress(ReactorNotRunning):
                reactor.stop()

        link = Link(reactor, stop)
        service = WorkerService(
            config,
            reactor,
            on_fatal=on_fatal,
            descriptors=range(FIRST_SOCKET, FIRST_SOCKET + start.sockets),
            others=link.others,
            listens_at_once=start.listens,
        )
        service.number, service.counts = start.number, Counts(COUNTS, start.workers)
        with ours:
            ours.setblocking(False)
            reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: link))
        reactor.callWhenRunning(link.serve, service)
        reactor.callWhenRunning(link.dataReceived, rest)
        links.append(link)
        return service

    code = run(config, make, worker=start.number)
    if links[0].orphaned and start.private_store is not None:
        shutil.rmtree(Path(start.private_store).parent, ignore_errors=True)
    return code
