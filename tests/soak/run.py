"""One soak: warm up, look, load, look again."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import yaml
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.service.scene import Scene
from tests.soak.traffic import Traffic
from tests.soak.visitors import visit
from tests.support.program import Program, free_port, wait_until
from tests.support.proxy import answers

#: Seconds between two exchanges of one client: some thousand a second in all, where the machine gives them.
PAUSE = 0.02
#: Seconds of load before the first look: caches are filled, allocators have grown to their size.
WARM_UP = 10.0
#: Bytes that the process may have grown by: what an allocator keeps in pieces, not what a leak makes.
GROWTH = 6 * 2**20
#: Seconds after which nothing of the load is left: lingering connections have four.
REST = 6.0
#: Seconds within which all is back where it was; connections without a request are closed long before.
PATIENCE = 30


def settings(scene: Scene, port: int, upstream: int) -> dict[str, dict[str, Any]]:
    """Return the configuration of a soaked proxy: short times, so that the end is soon seen.

    Clients have longer ones: this process may not be let run for a second or two, and would then write
    too late, or into a connection that the proxy is just closing.
    """
    return scene.configuration(
        server={
            "listenAddress": f"127.0.0.1:{port}",
            "workers": 1,
            "idleTimeout": "10s",
            "readTimeout": "10s",
        },
        upstream={"url": f"http://127.0.0.1:{upstream}", "idleTimeout": "1s"},
        auth={"baseUrl": "http://mcp.example"},
        limits={
            f"{kind}{who}": "0"
            for kind in ("register", "authorize", "token")
            for who in ("PerAddress", "Total")
        },
        log={"level": "ERROR"},
    )


class Soak:
    """A started proxy, its realm, and the traffic through it. ``say`` gets each line of the report."""

    def __init__(self, reactor: Any, seed: int, say: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._say = say
        self._random = Random(seed)
        self._scene = Scene()
        token = f"Authorization: Bearer {self._scene.token(aud='http://mcp.example/mcp', exp=2**31)}".encode()
        self._traffic = Traffic(reactor, seed, lambda: token, pause=PAUSE)
        self._port = free_port()
        self._directory = tempfile.TemporaryDirectory()
        path = Path(self._directory.name) / "config.yaml"
        path.write_text(yaml.safe_dump(settings(self._scene, self._port, self._traffic.upstream_port)))
        self._program = Program([sys.executable, "-m", "tests.soak.host", str(path)])

    async def run(self, seconds: float) -> list[str]:
        """Return what was not back where it was."""
        ready = f"http://127.0.0.1:{self._port}/readyz"
        await deferToThread(wait_until, lambda: answers(ready), "the proxy is ready", 30, self._program)
        await self._load(WARM_UP)
        before = await self._settled(None)
        self._say(f"before: {before}")
        await self._load(seconds)
        after = await self._settled(before)
        self._say(f"after:  {after}")
        self._say(f"traffic: {dict(self._traffic.seen)}")
        return compare(before, after)

    async def stop(self) -> None:
        """End everything."""
        await self._traffic.stop()
        code = await deferToThread(self._program.stop)
        self._scene.stop()
        self._directory.cleanup()
        if code:
            raise AssertionError(f"the proxy ended with {code}:\n{self._program.output[-3000:]}")

    async def _load(self, seconds: float) -> None:
        end = self._reactor.seconds() + seconds

        def more(*_: object) -> bool:
            return bool(self._reactor.seconds() < end)

        await gatherResults(
            [
                Deferred.fromCoroutine(self._traffic.run(self._port, more)),
                Deferred.fromCoroutine(visit(self._reactor, self._random, self._port, more, pause=PAUSE)),
            ],
            consumeErrors=True,
        )

    async def _settled(self, before: dict[str, Any] | None) -> dict[str, Any]:
        """Return what the proxy holds once it is no more than ``before``; without that, once it rests."""
        end = self._reactor.seconds() + (REST if before is None else PATIENCE)
        while True:
            holds = self._holds()
            if self._reactor.seconds() > end or (before is not None and not compare(before, holds)):
                return holds
            await deferLater(self._reactor, 0.5)

    def _holds(self) -> dict[str, Any]:
        line = next(line for line in reversed(self._program.output.splitlines()) if line.startswith("holds "))
        document: dict[str, Any] = json.loads(line.removeprefix("holds "))
        return document


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return what has become more, in words."""
    wrong = [
        f"{after[name]} {name}, {before[name]} before"
        for name in ("descriptors", "timers", "connections")
        if after[name] > before[name]
    ]
    more = Counter(after["objects"]) - Counter(before["objects"])
    if more:
        wrong.append(f"more objects: {dict(more)}")
    if after["memory"] > before["memory"] + GROWTH:
        wrong.append(f"{after['memory'] >> 10} KiB of memory, {before['memory'] >> 10} KiB before")
    return wrong
