"""What is measured: one row of the table each. A new row is a new entry of :data:`ROWS`."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import frozen

from bench import load, procfs
from bench.machine import tool
from bench.peers import Running
from bench.streams import open_streams
from bench.traffic import CALL, CALL_PATH, GET_PATH
from bench.world import World

CONNECTIONS = 32
#: Open streams whose memory is divided among them, and those opened and closed before to warm up.
STREAMS = 1000
WARM_STREAMS = 100
#: Tokens of one round of the row where each is new: fewer than any peer answers in its time.
NEW_TOKENS = 3000
#: Seconds for closed connections to be noticed and for collectors and free lists to come to rest.
_REST = 0.5


@frozen
class Sample:
    """One figure of one peer in one round; ``detail`` goes into the JSON report only."""

    value: float
    detail: dict[str, float]


@frozen
class Row:
    """A row.

    ``measure(world, running, seconds)`` takes one figure. ``fresh`` rows start each peer anew for every
    round, others share a peer among their rounds. ``streams`` says which upstream stands behind.
    """

    key: str
    title: str
    unit: str
    measure: Callable[[World, Running, int], Sample]
    needs: Callable[[], object] = lambda: None
    fresh: bool = False
    streams: bool = False

    def upstream(self, world: World) -> int:
        """Return the port of the upstream that the peers relay to."""
        return world.stub if self.streams else world.answers


def cpu_per_request(world: World, running: Running, request: load.Request, seconds: int) -> Sample:
    """Return the CPU microseconds that one request costs the peer."""
    used, began = procfs.cpu_seconds(running.pid), time.monotonic()
    seen = load.run(world, running.port, request, connections=CONNECTIONS, seconds=seconds)
    used, took = procfs.cpu_seconds(running.pid) - used, time.monotonic() - began
    return Sample(
        used / seen.answers * 1e6,
        {
            "requests": seen.answers,
            "requests_per_second": seen.answers / seen.duration,
            "p50_ms": seen.p50 * 1e3,
            "p99_ms": seen.p99 * 1e3,
            "core_busy": used / took,
        },
    )


def _get(world: World, running: Running, seconds: int) -> Sample:
    return cpu_per_request(world, running, load.Request("GET", GET_PATH, b"", [world.token]), seconds)


def _call(world: World, running: Running, seconds: int) -> Sample:
    return cpu_per_request(world, running, load.Request("POST", CALL_PATH, CALL, [world.token]), seconds)


def _new_token(world: World, running: Running, seconds: int) -> Sample:
    tokens = [world.realm.token() for _ in range(NEW_TOKENS)]
    return cpu_per_request(world, running, load.Request("GET", GET_PATH, b"", tokens), seconds)


def _idle_stream(world: World, running: Running, _seconds: int) -> Sample:
    with open_streams(running.port, world.token, WARM_STREAMS):
        pass
    time.sleep(_REST)
    before = procfs.memory_bytes(running.pid)
    with open_streams(running.port, world.token, STREAMS):
        time.sleep(_REST)
        after = procfs.memory_bytes(running.pid)
    return Sample(
        (after - before) / STREAMS / 1024, {"before_mib": before / 2**20, "after_mib": after / 2**20}
    )


def _wrk() -> object:
    return tool("wrk")


ROWS = (
    Row("get", "GET, 100-byte JSON answer, one token", "CPU us/request", _get, _wrk),
    Row("call", "POST of a tool call, 100-byte JSON answer, one token", "CPU us/request", _call, _wrk),
    Row("new-token", "GET, each token never seen before", "CPU us/request", _new_token, _wrk),
    Row("idle-stream", "open event stream, quiet", "KB/stream", _idle_stream, fresh=True, streams=True),
)
