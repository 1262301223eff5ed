"""One worker process as its supervisor sees it: started, listened to, told, ended."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import Factory, ProcessProtocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from mcp_oauth2_proxy.workers.messages import DRAIN, LISTEN, MAX_LINE, Report, Start, encode_others

#: The worker's descriptors: its end of the socket pair, the counts, and the first listening socket.
LINK, COUNTS, FIRST_SOCKET = 3, 4, 5


#: Bytes of a line of the worker's output at most, before it is cut in two.
MAX_WRITTEN = 64 * 1024


class Member(ProcessProtocol):
    """A worker. ``on_report`` hears that :attr:`report` is new, ``on_end`` that the process is gone."""

    _log = Logger()

    def __init__(
        self,
        number: int,
        *,
        born: float,
        on_report: Callable[[Member], None],
        on_end: Callable[[Member, int | None, int | None], None],
    ) -> None:
        self.number = number
        #: When it was started, in the clock's seconds.
        self.born = born
        #: What it said last; ``None`` until it has said anything.
        self.report: Report | None = None
        #: Looks of the supervisor since then.
        self.silent = 0
        #: Whether it was told to end.
        self.dismissed = False
        self._on_report = on_report
        self._on_end = on_end
        self._link: _Link | None = None
        self._told: list[str] | None = None
        self._written = {1: b"", 2: b""}

    def start(
        self,
        reactor: Any,
        start: Start,
        *,
        counts: int,
        sockets: Sequence[socket.socket],
        output: tuple[int, int] | None,
    ) -> None:
        """Start the process; raises ``OSError`` where the machine cannot have another one.

        ``counts`` is the descriptor of :class:`~mcp_oauth2_proxy.workers.turnstile.Counts`.
        ``output`` is what it has for standard output and error; ``None`` reads them and logs the lines.
        """
        ours, theirs = socket.socketpair()
        with theirs, ours:
            ours.setblocking(False)
            out, error = output or ("r", "r")
            descriptors: dict[int, Any] = {0: 0, 1: out, 2: error, LINK: theirs.fileno(), COUNTS: counts}
            for place, listening in enumerate(sockets, FIRST_SOCKET):
                descriptors[place] = listening.fileno()
            # It imports what we would, and nothing from the directory that we happen to be in (-P).
            command = [sys.executable, "-P", "-m", "mcp_oauth2_proxy.workers", str(start.number)]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            reactor.spawnProcess(self, command[0], command, environment, childFDs=descriptors)
            reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, Factory.forProtocol(self._attach))
        self._tell(start.encode())

    def _attach(self) -> _Link:
        self._link = _Link(self._said)
        return self._link

    @property
    def listens(self) -> bool:
        """Whether it takes connections."""
        return self.report is not None and self.report.listens

    @property
    def pid(self) -> int | None:
        """The process's number, ``None`` once it is gone."""
        pid: int | None = getattr(self.transport, "pid", None)
        return pid

    def tell_others(self, reasons: list[str]) -> None:
        """Tell it what keeps the others from being ready, where that is news."""
        if reasons != self._told:
            self._told = reasons
            self._tell(encode_others(reasons))

    def listen(self) -> None:
        """Have it take connections, ready or not."""
        self._tell(LISTEN)

    def dismiss(self) -> None:
        """Have it drain and end. One that has not even begun has nothing to drain."""
        self.dismissed = True
        if self.report is None:
            self._signal(signal.SIGTERM)
        else:
            self._tell(DRAIN)

    def kill(self) -> None:
        """End it at once."""
        self.dismissed = True
        self._signal(signal.SIGKILL)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """See :class:`ProcessProtocol`."""
        *lines, rest = (self._written[childFD] + data).split(b"\n")
        if len(rest) > MAX_WRITTEN:
            lines, rest = [*lines, rest], b""
        self._written[childFD] = rest
        for line in lines:
            self._log.info("{line}", line=line.decode("utf-8", "replace"))

    def processEnded(self, reason: Failure) -> None:
        """See :class:`ProcessProtocol`."""
        if self._link is not None and self._link.transport is not None:
            self._link.transport.loseConnection()
        self._on_end(self, getattr(reason.value, "exitCode", None), getattr(reason.value, "signal", None))

    def _said(self, line: bytes) -> None:
        self.silent = 0
        self.report = Report.decode(line)
        self._on_report(self)

    def _tell(self, line: bytes) -> None:
        if self._link is not None:
            self._link.sendLine(line)

    def _signal(self, number: int) -> None:
        if self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(number)


class _Link(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE

    def __init__(self, said: Callable[[bytes], None]) -> None:
        self._said = said

    def lineReceived(self, line: bytes) -> None:
        """See :class:`LineOnlyReceiver`."""
        self._said(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The process has ended, which its end tells."""
