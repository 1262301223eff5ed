"""What is measured (:class:`Row`), and what it has to reach (:class:`Target`, a line of the table)."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import frozen

from bench import bulk, events, load, procfs
from bench.errors import BenchError, Missing
from bench.machine import raise_file_limit, tool
from bench.peers import PROXY, Running
from bench.streams import open_streams
from bench.traffic import BULK_BYTES, CALL, CALL_PATH, GET_PATH, STREAMED, STREAMED_PATH
from bench.world import World

CONNECTIONS = 32
#: Connections of the row that compares many with few, and the least seconds of load for many. It is about
#: having them: opening them is over after so many answers of each.
FEW, MANY, MANY_SECONDS, OPENING = 10, 1000, 5, 3
#: Open streams whose memory is divided among them, and those opened and closed before to warm up.
STREAMS = 1000
WARM_STREAMS = 100
#: Streams of the row that shows whether many cost each of them more, and the files that one of them takes.
MANY_STREAMS, FILES_A_STREAM = 8000, 2
#: Tokens of one round of the row where each is new: fewer than any peer answers in its time.
NEW_TOKENS = 3000
#: Seconds for closed connections to be noticed and for collectors and free lists to come to rest.
_REST = 0.5
#: What the proxy's memory may grow by while bulk data runs through it: a sixteenth of the data.
FLAT = 16 * 1024 * 1024


@frozen
class Sample:
    """One figure of one peer in one round; ``detail`` goes into the JSON report only."""

    value: float
    detail: dict[str, float]


@frozen
class Row:
    """A measurement.

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


@frozen
class Target:
    """A line of the table: what a row's figure, or its ratio to a peer where one is named, may be at most."""

    title: str
    row: str
    at_most: float
    aim: float
    to: str | None = None


def cpu_per_request(
    world: World, running: Running, request: load.Request, seconds: int, connections: int = CONNECTIONS
) -> Sample:
    """Return the CPU microseconds that one request costs the peer."""
    used, began = procfs.cpu_seconds(running.pid), time.monotonic()
    seen = load.run(world, running.port, request, connections=connections, seconds=seconds)
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


def _plain(world: World) -> load.Request:
    return load.Request("GET", GET_PATH, b"", [world.token])


def _get(world: World, running: Running, seconds: int) -> Sample:
    return cpu_per_request(world, running, _plain(world), seconds)


def _call(world: World, running: Running, seconds: int) -> Sample:
    return cpu_per_request(world, running, load.Request("POST", CALL_PATH, CALL, [world.token]), seconds)


def _streamed(world: World, running: Running, seconds: int) -> Sample:
    request = load.Request("POST", STREAMED_PATH, CALL, [world.token], STREAMED)
    return cpu_per_request(world, running, request, seconds)


def _new_token(world: World, running: Running, seconds: int) -> Sample:
    tokens = [world.realm.token() for _ in range(NEW_TOKENS)]
    return cpu_per_request(world, running, load.Request("GET", GET_PATH, b"", tokens), seconds)


def _latency(world: World, running: Running, seconds: int) -> Sample:
    direct = load.run(world, world.answers, _plain(world), connections=1, seconds=1)
    through = load.run(world, running.port, _plain(world), connections=1, seconds=seconds)
    return Sample(
        (through.p50 - direct.p50) * 1e6,
        {"direct_us": direct.p50 * 1e6, "through_us": through.p50 * 1e6, "p99_us": through.p99 * 1e6},
    )


def _memory(world: World, running: Running, streams: int) -> Sample:
    with open_streams(running.port, world.token, WARM_STREAMS):
        pass
    time.sleep(_REST)
    before = procfs.memory_bytes(running.pid)
    with open_streams(running.port, world.token, streams):
        time.sleep(_REST)
        after = procfs.memory_bytes(running.pid)
    return Sample(
        (after - before) / streams / 1024, {"before_mib": before / 2**20, "after_mib": after / 2**20}
    )


def _idle_stream(world: World, running: Running, _seconds: int) -> Sample:
    return _memory(world, running, STREAMS)


def _many_streams(world: World, running: Running, _seconds: int) -> Sample:
    return _memory(world, running, MANY_STREAMS)


def _open_stream(world: World, running: Running, _seconds: int) -> Sample:
    used = procfs.cpu_seconds(running.pid)
    with open_streams(running.port, world.token, STREAMS):
        pass
    time.sleep(_REST)
    return Sample((procfs.cpu_seconds(running.pid) - used) / STREAMS * 1e6, {})


def _event(world: World, running: Running, _seconds: int) -> Sample:
    used = procfs.cpu_seconds(running.pid)
    count = events.run(running.port, world.token)
    return Sample((procfs.cpu_seconds(running.pid) - used) / count * 1e6, {"events": count})


def _bulk(world: World, running: Running, _seconds: int) -> Sample:
    start = procfs.cpu_seconds(running.pid)
    with bulk.watched_memory(running.pid) as memory:
        bulk.download(running.port, world.token)
        between = procfs.cpu_seconds(running.pid)
        bulk.upload(running.port, world.token)
    down, up = between - start, procfs.cpu_seconds(running.pid) - between
    grown = memory.most - memory.before
    if running.name == PROXY.name and grown > FLAT:
        raise BenchError(f"bulk: memory is not flat, it grew by {grown / 2**20:.0f} MiB")
    gigabytes = BULK_BYTES / 1e9
    return Sample(
        (down + up) / 2 / gigabytes,
        {"down": down / gigabytes, "up": up / gigabytes, "grown_mib": grown / 2**20},
    )


def _connections(world: World, running: Running, seconds: int) -> Sample:
    few, few_opened = _with_connections(world, running, seconds, FEW)
    many, many_opened = _with_connections(world, running, max(seconds, MANY_SECONDS), MANY)
    return Sample(many / few, {"few_us": few, "many_us": many, "opening_included": many_opened / few_opened})


def _with_connections(world: World, running: Running, seconds: int, connections: int) -> tuple[float, float]:
    """Return the CPU microseconds of a request on open connections, and with opening and closing them."""
    marks = [(0, procfs.cpu_seconds(running.pid))]

    def mark(answers: int) -> None:
        marks.append((answers, procfs.cpu_seconds(running.pid)))

    request = _plain(world)
    seen = load.run(world, running.port, request, connections=connections, seconds=seconds, progress=mark)
    whole = (procfs.cpu_seconds(running.pid) - marks[0][1]) / seen.answers
    last, after = marks[-1]
    # On a machine that has done next to nothing so far, what is over is half of it.
    first, before = next(found for found in marks if found[0] >= min(OPENING * connections, last // 2))
    if last == first:
        raise BenchError(f"connections: {seen.answers} answers are too few, take more --seconds")
    return (after - before) / (last - first) * 1e6, whole * 1e6


def _start(_world: World, running: Running, _seconds: int) -> Sample:
    return Sample(running.start, {})


def _wrk() -> object:
    return tool("wrk")


def _files() -> object:
    most, needed = raise_file_limit(), MANY_STREAMS * FILES_A_STREAM + 1000
    if most < needed:
        raise Missing(f"{needed} open files are needed, {most} are allowed (ulimit -Hn)")
    return most


ROWS = (
    Row("get", "GET, 100-byte JSON answer, one token", "CPU us/request", _get, _wrk),
    Row("new-token", "GET, each token never seen before", "CPU us/request", _new_token, _wrk),
    Row("latency", "added latency, one connection, p50", "us", _latency, _wrk),
    Row("idle-stream", "open event stream, quiet", "KB/stream", _idle_stream, fresh=True, streams=True),
    Row(
        "many-streams",
        "one of 8000 such streams",
        "KB/stream",
        _many_streams,
        _files,
        fresh=True,
        streams=True,
    ),
    Row("open-stream", "opening a stream, and closing it", "CPU us/stream", _open_stream, streams=True),
    Row("event", "event of a stream", "CPU us/event", _event, streams=True),
    Row("bulk", "bulk data, mean of down and up", "CPU s/GB", _bulk, streams=True),
    Row("connections", "CPU per request, 1000 connections to 10", "ratio", _connections, _wrk),
    Row("start", "exec to the first relayed answer", "s", _start, fresh=True),
    Row("call", "POST of a tool call, 100-byte JSON answer, one token", "CPU us/request", _call, _wrk),
    Row(
        "call-stream",
        "the same, answered by an event stream that ends",
        "CPU us/request",
        _streamed,
        _wrk,
        streams=True,
    ),
)

TARGETS = (
    Target("CPU per authenticated request", "get", 0.60, 0.45, "go"),
    Target("the same, to nginx `proxy_pass`", "get", 6, 4, "nginx"),
    Target("a token never seen before", "new-token", 1.6, 1.2, "go"),
    Target("added latency, one connection, p50", "latency", 0.9, 0.6, "go"),
    Target("memory per idle SSE stream", "idle-stream", 16, 13),
    Target("CPU per SSE event", "event", 1.3, 1.0, "go"),
    Target("bulk, CPU per GB, memory flat", "bulk", 2.0, 1.3, "go"),
    Target("CPU per request at 1 000 connections to 10", "connections", 1.25, 1.1),
    Target("exec to ready, everything local", "start", 1, 0.5),
)
#: The rows that the table needs; the others are measured where they are asked for.
DEFAULT_ROWS = tuple(row.key for row in ROWS if any(target.row == row.key for target in TARGETS))
