"""The real program, ``mcp-oauth2-proxy serve``, started for a test on a free port."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.support.program import Program, clean_environment, free_port, wait_until

#: Seconds: half of one on an idle machine.
_START_TIMEOUT = 30


def get(url: str) -> tuple[int, str]:
    """GET ``url`` and return status and body; raises OSError where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def answers(url: str, status: int | None = 200) -> bool:
    """Return whether somebody answers at ``url`` with this status, or with any."""
    with contextlib.suppress(OSError):
        return get(url)[0] == status or status is None
    return False


class Proxy:
    """A running proxy. ``output`` is all it has said so far."""

    def __init__(self, configuration: dict[str, Any], *, port: int | None = None, **environment: str) -> None:
        self.port = port or free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._ready = f"{self.base_url}/readyz"
        self._directory = tempfile.TemporaryDirectory()
        path = Path(self._directory.name) / "config.yaml"
        self._path = path
        self._configuration: dict[str, Any] = {
            "server": {"listenAddress": f"127.0.0.1:{self.port}", "shutdownGrace": "2s"},
            "auth": {"baseUrl": self.base_url},
        }
        self.rewrite(**configuration)
        self.program = Program(
            [sys.executable, "-m", "mcp_oauth2_proxy", "serve", "--config", str(path)],
            environment=clean_environment(**environment),
            directory=Path(self._directory.name),
        )

    def rewrite(self, **sections: dict[str, Any]) -> None:
        """Write the configuration file, ``sections`` laid over what it was before."""
        for section, settings in sections.items():
            self._configuration[section] = {**self._configuration.get(section, {}), **settings}
        self._path.write_text(yaml.safe_dump(self._configuration), encoding="utf-8")

    @property
    def output(self) -> str:
        """Return everything the program has written."""
        return self.program.output

    @property
    def mcp_url(self) -> str:
        """Return what a user types into an MCP client."""
        return f"{self.base_url}/mcp"

    def health(self) -> tuple[int, str]:
        """Ask ``/healthz``."""
        return get(f"{self.base_url}/healthz")

    def readiness(self) -> tuple[int, str]:
        """Ask ``/readyz``."""
        return get(self._ready)

    def wait_until_alive(self) -> None:
        """Return once the program answers at all."""
        wait_until(lambda: answers(self._ready, None), "the proxy answers", _START_TIMEOUT, self.program)

    def wait_until_ready(self, timeout: float = _START_TIMEOUT) -> None:
        """Return once ``/readyz`` is 200."""
        wait_until(lambda: answers(self._ready), "the proxy is ready", timeout, self.program)

    def stop(self) -> int:
        """Stop the program by SIGTERM and return its exit code."""
        try:
            return self.program.stop(signal.SIGTERM)
        finally:
            self._directory.cleanup()

    def wait(self, timeout: float) -> int:
        """Wait for the program to end by itself and return its exit code."""
        try:
            return self.program.wait(timeout)
        finally:
            self._directory.cleanup()

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the log as documents, where ``log.format`` is ``json``."""
        return [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]
