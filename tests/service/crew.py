"""A started program of several processes, as a test looks at it."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.service.scene import PATIENCE, Scene, connect, read_answer
from tests.support.program import wait_until
from tests.support.proxy import Proxy

#: Connections after which every one of two workers has had some, on any machine.
MANY = 400


def alive(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class CrewCase(TestCase):
    """Starts the program with two workers before a scene."""

    timeout = 120

    def setUp(self) -> None:
        self.scene = Scene()
        self.addCleanup(self.scene.stop)

    def start(self, *, wait: bool = True, **sections: Any) -> Proxy:
        server = {"workers": 2, **sections.pop("server", {})}
        proxy = self.scene.start(wait=wait, server=server, **sections)
        self.addCleanup(proxy.program.kill)
        if wait and server["workers"] > 1:  # it may have answered before all that it said has been read

            def told() -> bool:
                return len(self.pids(proxy)) == server["workers"]

            wait_until(told, "the log names every worker", PATIENCE, proxy.program)
        return proxy

    def pids(self, proxy: Proxy) -> dict[int, int]:
        """Return the process of each worker, by its number."""
        lines = [line for line in proxy.log_lines() if "pid" in line]
        return {line["worker"]: line["pid"] for line in lines}

    def supervisor(self, proxy: Proxy) -> int:
        """Return the process that started the workers."""
        stat = Path(f"/proc/{self.pids(proxy)[1]}/stat").read_text(encoding="ascii")
        return int(stat.rpartition(")")[2].split()[1])

    def get(self, path: str) -> bytes:
        return (
            f"GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {self.scene.token()}\r\n\r\n".encode()
        )

    def fresh(self, proxy: Proxy, path: str = "/mcp") -> int:
        """Return the status of a request on a connection of its own."""
        with connect(proxy.port) as client:
            client.sendall(self.get(path))
            return read_answer(client)[0]

    def worker_of(self, proxy: Proxy, path: str) -> int:
        """Return which worker has answered the request for ``path``."""

        def lines() -> list[Any]:
            return [line["worker"] for line in proxy.log_lines() if line.get("path") == path]

        wait_until(lambda: bool(lines()), f"{path} is in the log", PATIENCE, proxy.program)
        found: int = lines()[-1]
        return found

    def kept(self, proxy: Proxy, path: str) -> tuple[int, socket.socket]:
        """Return an open connection with one request behind it, for ``path``, and whose it is."""
        client = connect(proxy.port)
        self.addCleanup(client.close)
        client.sendall(self.get(path))
        self.assertEqual(read_answer(client)[0], 200)
        return self.worker_of(proxy, path), client

    def one_of_each(self, proxy: Proxy) -> dict[int, socket.socket]:
        """Return a connection that is open to each worker, by its number."""
        found: dict[int, socket.socket] = {}
        for number in range(MANY):
            worker, client = self.kept(proxy, f"/of/{number}")
            if found.setdefault(worker, client) is not client:
                client.close()
            if len(found) == 2:
                return found
        raise AssertionError(f"{MANY} connections, and all at {list(found)}")

    def kill_worker(self, proxy: Proxy, number: int) -> int:
        """Kill a worker the hard way, and return its process."""
        pid = self.pids(proxy)[number]
        os.kill(pid, signal.SIGKILL)
        proxy.program.wait_for(f"worker {number} was killed by SIGKILL", PATIENCE)
        return pid
