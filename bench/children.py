"""The processes of a measurement: pinned to a core, and ended with the bench whatever happens."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.errors import StartFailed

#: Seconds a process may take to answer, and to end.
START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0
_PR_SET_PDEATHSIG = 1
#: What ends the bench.
_ENDING = (signal.SIGINT, signal.SIGTERM)
_libc = ctypes.CDLL(None, use_errno=True)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _prepare_child(core: int) -> Callable[[], None]:
    """Return what a child does before it becomes its program: take its core, and die with the bench.

    The core is taken before the program starts, since Go counts its cores (``GOMAXPROCS``) at start.
    """

    def prepare() -> None:
        os.sched_setaffinity(0, {core})
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)

    return prepare


def spawn(command: Sequence[str], core: int, **options: Any) -> subprocess.Popen[Any]:
    """Start a program on ``core``, in a session of its own: Ctrl-C is the bench's to handle.

    A signal that comes meanwhile is heard afterwards: what its handler raised within Python's own callbacks
    of a fork (``os.register_at_fork``; logging has one) would be printed and forgotten.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        process = subprocess.Popen(
            command,
            start_new_session=True,
            preexec_fn=_prepare_child(core),  # noqa: PLW1509 (no thread of the bench runs here)
            **options,
        )
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except BaseException:  # it has come
        process.kill()
        process.wait()
        raise
    return process


class Child:
    """A running program; both its outputs go to ``log``."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        core: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        self._command = command
        with log.open("wb") as output:
            self._process = spawn(
                command,
                core,
                cwd=log.parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """Return the process's id."""
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Return once ``ready()`` holds; an :exc:`OSError` of it counts as not yet.

        :raises StartFailed: the process has ended, or the time is up; with the end of its output.
        """
        deadline = time.monotonic() + START_TIMEOUT
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if ready():
                    return
            time.sleep(0.005)
        said = self._log.read_text(errors="replace").strip()[-1500:]
        raise StartFailed(f"{Path(self._command[0]).name} did not start: {said or 'it says nothing'}")

    def stop(self) -> None:
        """End the process and what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
