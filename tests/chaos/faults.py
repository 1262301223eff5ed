"""What breaks, when, and for how long: a schedule that follows from its seed, and the breaking itself."""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from random import Random
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.internet.threads import deferToThread

from tests.chaos.history import Forgot

if TYPE_CHECKING:
    from tests.chaos.world import World

#: Seconds: how long a fault lasts, how long after the first of an episode the others begin, and how long
#: everything is well between two episodes.
LASTS, LATER, CALM = (0.3, 5.0), (0.0, 3.0), (1.5, 4.0)
#: Seconds that an episode takes beyond its faults, roughly: recovery and calm.
_REST = 5.0
#: Connections that say half a request and no more.
_STALLED = 40


@frozen
class Fault:
    """``kind`` befalls ``target``, ``after`` seconds from the episode's beginning, for ``lasts`` seconds."""

    kind: str
    target: str
    after: float
    lasts: float

    def __str__(self) -> str:
        return f"{self.target} {self.kind} +{self.after:.1f} for {self.lasts:.1f} s"


@frozen
class Episode:
    """Faults that overlap, after ``calm`` seconds in which everything must work."""

    calm: float
    faults: tuple[Fault, ...]

    @property
    def length(self) -> float:
        """Return the seconds until its last fault is over."""
        return self.calm + max(fault.after + fault.lasts for fault in self.faults)


#: What can befall what. Each replica is ``replica one`` or ``replica two``.
KINDS: dict[str, tuple[str, ...]] = {
    "replica one": ("killed", "stopped", "paused", "a worker killed"),
    "replica two": ("killed", "stopped", "paused", "a worker killed"),
    "redis": ("killed", "paused", "wiped"),
    "realm": ("gone", "stalled", "cut"),
    "upstream": ("gone", "stalled", "cut"),
    "clients": ("stalled",),
}


def schedule(seed: str, seconds: float) -> list[Episode]:
    """Return the episodes of a run of about ``seconds``; the same for the same arguments.

    Every kind of fault comes once before any comes again, so that a long run leaves none out.
    """
    random = Random(seed)
    episodes: list[Episode] = []
    left, bag = seconds, list[tuple[str, str]]()
    while left > 0:
        faults: list[Fault] = []
        for number in range(random.choice((1, 1, 2, 2, 3))):
            bag = bag or random.sample(
                [(kind, target) for target, kinds in KINDS.items() for kind in kinds],
                sum(map(len, KINDS.values())),
            )
            kind, target = bag[-1]
            if any(fault.target == target for fault in faults):
                break
            bag.pop()
            after = random.uniform(*LATER) if number else 0.0
            faults.append(Fault(kind, target, round(after, 1), round(random.uniform(*LASTS), 1)))
        episodes.append(Episode(round(random.uniform(*CALM), 1), tuple(faults)))
        left -= episodes[-1].length + _REST
    return episodes


class Breaker:
    """Makes faults of a world, and mends them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stalled: list[socket.socket] = []

    async def befall(self, fault: Fault) -> None:
        """Wait for a fault's time, make it, and mend it when it has lasted."""
        world = self._world
        await world.sleep(fault.after)
        begin, end = self._ways(fault)
        world.note(f"{fault.target} {fault.kind}, for {fault.lasts:.1f} s")
        await begin()
        await world.sleep(fault.lasts)
        await end()
        world.note(f"{fault.target} well again")

    def _ways(self, fault: Fault) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        world = self._world
        place = fault.target.partition(" ")[0]
        if place == "replica":
            return self._replica(fault)
        if place == "redis":
            return self._redis(fault.kind)
        if place == "clients":
            return self._stall_clients, self._free_clients
        gate = world.realm if place == "realm" else world.upstream

        async def begin() -> None:
            if fault.kind == "gone":
                await gate.shut()
            elif fault.kind == "stalled":
                gate.stall()
            else:
                gate.cut()

        async def end() -> None:
            gate.open()

        return begin, end

    def _replica(self, fault: Fault) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        name = fault.target.partition(" ")[2]
        replica = next(one for one in self._world.replicas if one.name == name)

        async def nothing() -> None:
            """It mends itself, or needs no mending."""

        async def start() -> None:
            await replica.start(wait=False)

        async def pause() -> None:
            replica.pause()

        async def resume() -> None:
            replica.resume()

        async def kill_worker() -> None:
            replica.kill_worker(int(fault.lasts * 10))

        async def restart_what_died() -> None:
            if replica.proxy.program.ended:
                await replica.start(wait=False)

        return {
            "killed": (replica.kill, start),
            "stopped": (replica.stop, start),
            "paused": (pause, resume),
            "a worker killed": (kill_worker, restart_what_died),
        }[fault.kind]

    def _redis(self, kind: str) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        redis = self._world.redis

        async def kill() -> None:
            await deferToThread(redis.kill)

        async def start() -> None:
            await deferToThread(redis.start)

        async def pause() -> None:
            redis.pause()

        async def resume() -> None:
            redis.resume()

        async def wipe() -> None:
            await deferToThread(redis.wipe)
            self._world.saw(Forgot("chaos"))

        return {"killed": (kill, start), "paused": (pause, resume), "wiped": (wipe, start)}[kind]

    async def _stall_clients(self) -> None:
        """Open connections at nginx and at both replicas, and say half a request at each."""
        ports = [self._world.nginx.port, *(replica.port for replica in self._world.replicas)]
        for number in range(_STALLED):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", ports[number % len(ports)]))
            self._stalled.append(one)
        await self._world.sleep(0.1)
        for one in self._stalled:
            try:
                one.send(b"POST /oauth/token HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\ngrant")
            except OSError:
                continue  # its replica is away just now

    async def _free_clients(self) -> None:
        for one in self._stalled:
            one.close()
        self._stalled.clear()
