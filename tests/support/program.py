"""Real programs for a test: their output is kept, nothing outlives the tests, every wait ends."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
_GUARD = Path(__file__).with_name("guard.py")


def _ports() -> range:
    """Return the ports below those that the kernel gives to outgoing connections."""
    with contextlib.suppress(OSError):
        ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()
        return range(10_000, int(ephemeral[0]))
    return range(0)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on.

    Until the program listens there nobody holds it. So it is none that an outgoing connection could get, of
    which other tests make thousands.
    """
    ports = _ports()
    for _ in range(100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", secrets.choice(ports) if ports else 0))
            port: int = probe.getsockname()[1]
            return port
    raise AssertionError("no free port was found")


def clean_environment(**extra: str) -> dict[str, str]:
    """Return the environment without what would configure the program under test, plus ``extra``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MCP_OAUTH2_PROXY_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


class Program:
    """A running program. ``output`` grows with what it writes to stdout and stderr, in order."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path = REPOSITORY,
    ) -> None:
        self.output = ""
        self._changed = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            [sys.executable, str(_GUARD), *command],
            env=clean_environment() if environment is None else environment,
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.output += line.decode("utf-8", "replace")
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, pattern: str, timeout: float) -> re.Match[str]:
        """Return the first match of ``pattern`` in the output; fails when the program or the time ends."""
        found: list[re.Match[str]] = []

        def seen() -> bool:
            match = re.search(pattern, self.output, re.MULTILINE)
            if match is not None:
                found.append(match)
            return match is not None or self._ended

        with self._changed:
            self._changed.wait_for(seen, timeout)
        if not found:
            state = "ended" if self._ended else f"did not within {timeout:.0f} s"
            raise AssertionError(f"waited for {pattern!r}, the program {state}:\n{self.output}")
        return found[0]

    @property
    def pid(self) -> int:
        """Return the process that began it; what it does is done by its children."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Say whether the program has closed its output."""
        return self._ended

    def wait(self, timeout: float) -> int:
        """Return the exit code; kills the program and fails when it takes longer than ``timeout`` seconds."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after {timeout:.0f} s:\n{self.output}") from None
        self._reader.join(5)
        self.kill()
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal and go on."""
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20) -> int:
        """Send a signal and return the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self.wait(timeout)

    def kill(self) -> None:
        """End the whole process group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def wait_until(
    condition: Callable[[], bool], what: str, timeout: float, program: Program | None = None
) -> None:
    """Ask ``condition()`` every 50 ms until it is true; fails after ``timeout`` seconds, naming ``what``."""
    deadline = time.monotonic() + timeout
    ticks = threading.Event()
    while not condition():
        said = program.output if program is not None else ""
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout:.0f} s\n{said}")
        if program is not None and program.ended:
            raise AssertionError(f"{what}: the program ended\n{said}")
        ticks.wait(0.05)
