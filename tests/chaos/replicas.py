"""Replicas of the started program, killed and started again as an operator's machines would."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

from twisted.internet.threads import deferToThread

from bench.procfs import family_of
from tests.support.program import free_port, wait_until
from tests.support.proxy import Proxy

#: Seconds that all workers of a replica may take to be succeeded, one after the other.
_SUCCESSION = 60


class Replica:
    """One replica on a port that stays its own. Waiting is done in threads: the reactor serves its realm."""

    def __init__(self, name: str, configuration: dict[str, Any]) -> None:
        self.name = name
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._configuration = configuration
        self._proxy: Proxy | None = None
        #: The ends of the programs that were told to stop, in their order.
        self.exits: list[int] = []

    @property
    def proxy(self) -> Proxy:
        """Return the running program."""
        assert self._proxy is not None
        return self._proxy

    async def start(self, *, wait: bool = True) -> None:
        """Start the program; ``wait`` for it to be ready, which asks for every part to be well."""
        self._proxy = Proxy(self._configuration, port=self.port)
        await deferToThread(self.proxy.wait_until_ready if wait else self.proxy.wait_until_alive)

    async def unready(self) -> str:
        """Return why the replica says that it is not ready, or an empty text."""
        try:
            status, said = await deferToThread(self.proxy.readiness)
        except OSError as error:
            status, said = 0, str(error)
        return "" if status == 200 else f"replica {self.name}: {said}"

    async def kill(self) -> None:
        """``kill -9``, with all its processes."""
        if self._proxy is not None:
            await deferToThread(self._proxy.program.kill)

    async def stop(self) -> None:
        """SIGTERM, until it has ended."""
        self.exits.append(await deferToThread(self.proxy.stop))

    async def reload(self) -> None:
        """SIGHUP, until every worker has been succeeded by another."""
        before, supervisor = set(self.workers()), family_of(self.proxy.program.pid)[1]
        os.kill(supervisor, signal.SIGHUP)

        def succeeded() -> bool:
            now = set(self.workers())
            return not now & before and len(now) == len(before)

        what = f"replica {self.name} has new workers"
        await deferToThread(wait_until, succeeded, what, _SUCCESSION, self.proxy.program)

    def workers(self) -> list[int]:
        """Return the processes that serve: the program's children, or the program where it has none."""
        below = family_of(self.proxy.program.pid)[1:]  # the first is the tests' guard
        return below[1:] or below

    def kill_worker(self, number: int) -> None:
        """``kill -9`` one of the processes that serve."""
        workers = self.workers()
        with contextlib.suppress(ProcessLookupError):
            os.kill(workers[number % len(workers)], signal.SIGKILL)

    def pause(self) -> None:
        """Let it do nothing: its sockets stall, and stay."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        # Not the guard: it must be able to end the others when the tests are gone.
        for pid in family_of(self.proxy.program.pid)[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
