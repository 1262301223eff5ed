"""A reactor whose processes are a test's own: nothing is started, everything is recorded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from mcp_oauth2_proxy.workers.messages import Report


@implementer(IProcessTransport)
@define(eq=False)
class FakeProcess:
    """A worker that does what the test does in its place."""

    pid: int | None
    protocol: ProcessProtocol
    command: list[str]
    environment: dict[str, str]
    descriptors: dict[int, Any]
    link: Any = None
    wire: StringTransport = field(factory=StringTransport)
    signals: list[int] = field(factory=list)

    def signalProcess(self, number: int) -> None:
        """Note a signal; one that cannot be ignored ends the process."""
        if self.pid is None:
            raise ProcessExitedAlready
        self.signals.append(number)

    def told(self) -> list[Any]:
        """Return, once, the documents that the supervisor has sent."""
        lines = self.wire.value().splitlines()
        self.wire.clear()
        return [json.loads(line) for line in lines]

    def say(self, report: Report) -> None:
        """Report."""
        self.link.dataReceived(report.encode() + b"\n")

    def end(self, exit_code: int | None = None, signal: int | None = None) -> None:
        """End."""
        self.pid = None
        clean = exit_code == 0
        reason = ProcessDone(0) if clean else ProcessTerminated(exitCode=exit_code, signal=signal)
        self.protocol.processEnded(Failure(reason))


class FakeReactor(Clock):
    """A clock with processes. ``refuse`` is an error that starting one fails with."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.refuse: OSError | None = None

    def spawnProcess(
        self,
        protocol: ProcessProtocol,
        executable: str,
        args: list[str],
        env: dict[str, str],
        childFDs: dict[int, Any],
    ) -> FakeProcess:
        """Start nothing."""
        if self.refuse is not None:
            raise self.refuse
        for number in childFDs.values():
            if isinstance(number, int):
                os.fstat(number)  # what is handed on is open
        process = FakeProcess(1000 + len(self.processes), protocol, [executable, *args], env, childFDs)
        self.processes.append(process)
        protocol.makeConnection(process)
        return process

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        """Connect the supervisor's end of a socket pair to the last process."""
        process = self.processes[-1]
        process.link = factory.buildProtocol(None)
        process.link.makeConnection(process.wire)

    def callWhenRunning(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Call it: it runs."""
        call(*arguments)

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Call it."""
        call(*arguments)
