"""Real Redis servers for the tests: alone, behind Sentinels, and as a cluster; gone with the test process.

Where this machine has no ``redis-server`` the tests that need it are skipped; with ``REQUIRE_REDIS=1`` in the
environment they fail instead.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import SkipTest

from redis import Redis
from redis.exceptions import RedisError

from tests.support.program import Program, free_port, wait_until

#: Seconds; a tenth of one on an idle machine, and a few until a cluster or Sentinels have agreed.
_START_TIMEOUT = 40
#: Milliseconds after which Sentinels and cluster nodes take another for dead.
DEAD_AFTER = 500


def redis_server() -> str:
    """Return the path of ``redis-server``. Raises SkipTest where there is none."""
    found = shutil.which("redis-server")
    if found is None:
        if os.environ.get("REQUIRE_REDIS") == "1":
            raise AssertionError("REQUIRE_REDIS=1, but there is no redis-server")
        raise SkipTest("no redis-server on this machine")
    return found


class RedisServer:
    """One server on a free port of 127.0.0.1, which keeps nothing; ``options`` are its command line's."""

    def __init__(self, *options: str, password: str | None = None) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.directory = Path(self._directory.name)
        self.port = free_port()
        self.password = password
        self._command = [
            redis_server(),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)),
            *("--save", "", "--appendonly", "no", "--pidfile", str(self.directory / "pid")),
            *(("--requirepass", password) if password else ()),
            *options,
        ]
        self.start()

    def start(self) -> None:
        """Start it, on the same port when it was stopped."""
        self.program = Program(self._command, directory=self.directory)
        wait_until(self._answers, "Redis answers", _START_TIMEOUT, self.program)
        self.pid = int(self.client().info("server")["process_id"])

    def client(self) -> Any:
        """Return a client of the tests' own."""
        return Redis("127.0.0.1", self.port, password=self.password, protocol=2, socket_timeout=10)

    def pause(self) -> None:
        """Keep it from doing anything; connections stay, and are even accepted by the kernel."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; what it held is gone."""
        self.program.kill()

    def wipe(self) -> None:
        """End it at once, and with it what it has written down."""
        self.kill()
        shutil.rmtree(self.directory / "appendonlydir", ignore_errors=True)

    def stop(self) -> None:
        """End it and remove its directory."""
        self.program.kill()
        self._directory.cleanup()

    def _answers(self) -> bool:
        with contextlib.suppress(RedisError):
            return bool(self.client().ping())
        return False


class Sentinels:
    """A primary with one replica, and three Sentinels that watch over them."""

    service = "mymaster"

    def __init__(self) -> None:
        self.servers = [RedisServer()]
        primary = str(self.servers[0].port)
        self.servers.append(RedisServer("--replicaof", "127.0.0.1", primary))
        self._directory = tempfile.TemporaryDirectory()
        self.ports = [free_port() for _ in range(3)]
        self.programs = [self._start(port, primary) for port in self.ports]
        wait_until(self._agreed, "the Sentinels know each other", _START_TIMEOUT)

    @property
    def url(self) -> str:
        """Return the value for ``store.url``."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{hosts}/{self.service}"

    def primary(self) -> RedisServer:
        """Return the server that all Sentinels call the primary: each learns of a failover in its turn."""
        wait_until(lambda: len(self._named()) == 1, "the Sentinels name one primary", _START_TIMEOUT)
        (port,) = self._named()
        return next(server for server in self.servers if server.port == port)

    def _named(self) -> set[int]:
        return {int(self._state(port)["port"]) for port in self.ports}

    def _state(self, port: int) -> Any:
        sentinel: Any = Redis("127.0.0.1", port, protocol=2, socket_timeout=10)
        return sentinel.sentinel_masters()[self.service]

    def stop(self) -> None:
        """End everything."""
        for program in self.programs:
            program.kill()
        for server in self.servers:
            server.stop()
        self._directory.cleanup()

    def _start(self, port: int, primary: str) -> Program:
        path = Path(self._directory.name) / f"sentinel-{port}.conf"
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"sentinel monitor {self.service} 127.0.0.1 {primary} 2",
            f"sentinel down-after-milliseconds {self.service} {DEAD_AFTER}",
            f"sentinel failover-timeout {self.service} 3000",
        ]
        path.write_text("\n".join(lines) + "\n")
        return Program([redis_server(), str(path), "--sentinel"], directory=path.parent)

    def _agreed(self) -> bool:
        with contextlib.suppress(RedisError):
            for port in self.ports:
                state = self._state(port)
                if (state["num-other-sentinels"], state["num-slaves"]) != (2, 1):
                    return False
            info = self.servers[1].client().info("replication")
            return bool(info["master_link_status"] == "up")
        return False


class Cluster:
    """Three nodes that share the slots among them."""

    def __init__(self) -> None:
        buses = [free_port() for _ in range(3)]
        self.servers = [
            RedisServer(
                *("--cluster-enabled", "yes", "--cluster-port", str(bus)),
                *("--cluster-node-timeout", str(DEAD_AFTER)),
            )
            for bus in buses
        ]
        first = self.servers[0].client()
        bounds = (0, 5461, 10923, 16384)
        for number, (server, bus) in enumerate(zip(self.servers, buses, strict=True)):
            client = server.client()
            client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            if number:
                first.execute_command("CLUSTER MEET", "127.0.0.1", server.port, bus)
        wait_until(self._agreed, "the cluster is whole", _START_TIMEOUT)

    @property
    def url(self) -> str:
        """Return the value for ``store.url``."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def stop(self) -> None:
        """End everything."""
        for server in self.servers:
            server.stop()

    def _agreed(self) -> bool:
        for server in self.servers:
            info = server.client().cluster("info")
            if info["cluster_state"] != "ok" or info["cluster_known_nodes"] != "3":
                return False
        return True


def flush(servers: Sequence[RedisServer]) -> None:
    """Empty those of ``servers`` that may be written to."""
    for server in servers:
        with contextlib.suppress(RedisError):
            server.client().flushall()


def let_time_pass(servers: Sequence[RedisServer], seconds: float) -> None:
    """Make every value ``seconds`` older, as if that time had passed."""
    for server in servers:
        client = server.client()
        if client.info("replication")["role"] != "master":
            continue
        for key in client.scan_iter(count=1000):
            left = client.pttl(key)
            if left >= 0:
                client.pexpire(key, left - round(seconds * 1000))


@cache
def shared_server() -> RedisServer:
    """Return one server for the whole test process."""
    server = RedisServer()
    atexit.register(server.stop)
    return server


@cache
def shared_sentinels() -> Sentinels:
    """Return Sentinels for those tests that let them be."""
    sentinels = Sentinels()
    atexit.register(sentinels.stop)
    return sentinels


@cache
def shared_cluster() -> Cluster:
    """Return a cluster for those tests that let it be."""
    cluster = Cluster()
    atexit.register(cluster.stop)
    return cluster
