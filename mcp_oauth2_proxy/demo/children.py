"""The demo's child processes: started on free ports, their output kept, stopped with the demo."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

#: Lines kept of a child's output, for the message when it fails.
_KEPT_LINES = 40
#: Seconds a child gets to stop by itself; the proxy's own grace is 10.
_STOP_TIMEOUT = 15.0
_PACKAGE_PARENT = Path(__file__).parents[2]


class ChildFailedError(Exception):
    """A child process ended or did not get ready; the text has the last of what it said."""


class Child:
    """A running child. ``follow`` is called with every line from the moment it is set."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.follow: Callable[[str], None] | None = None
        self._process = process
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._changed = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 (it was asked for)
        async for raw in self._process.stdout:
            line = raw.decode("utf-8", "replace").rstrip()
            self._lines.append(line)
            self._changed.set()
            if self.follow is not None:
                self.follow(line)
        await self._process.wait()
        self._changed.set()

    @property
    def ended(self) -> bool:
        """Say whether the process is gone."""
        return self._process.returncode is not None

    def failure(self, what: str) -> ChildFailedError:
        """Return an error with the last of the child's output."""
        said = "\n".join(f"  | {line}" for line in self._lines) or "  | (it said nothing)"
        return ChildFailedError(f"{self.name} {what}; the last it said:\n{said}")

    async def line(self, pattern: str, timeout: float) -> re.Match[str]:
        """Return the first match of ``pattern`` in a line. Raises :exc:`ChildFailedError`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while True:
                    for line in self._lines:
                        found = re.search(pattern, line)
                        if found is not None:
                            return found
                    if self.ended:
                        raise self.failure(f"ended with exit code {self._process.returncode}")
                    self._changed.clear()
                    await self._changed.wait()
        raise self.failure(f"was not ready within {timeout:.0f} s")

    async def stop(self) -> None:
        """Stop the child, by force where it does not go."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), _STOP_TIMEOUT)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        await self._reading


@asynccontextmanager
async def python_child(
    name: str, arguments: list[str], directory: Path, extra: Mapping[str, str] | None = None
) -> AsyncIterator[Child]:
    """Run ``python ARGUMENTS`` in ``directory`` until the block ends.

    The child's environment is this one's without the proxy's own settings, plus ``extra``.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MCP_OAUTH2_PROXY_")
    }
    environment |= {"PYTHONUNBUFFERED": "1", **(extra or {})}
    # The children find the package also where it runs from a source tree.
    paths = [str(_PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=directory,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    child = Child(name, process)
    try:
        yield child
    finally:
        # Shielded, so that a second Ctrl-C cannot leave a child behind.
        await asyncio.shield(child.stop())
