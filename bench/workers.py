"""``python -m bench.workers``: what a second worker is worth, on a machine that has two cores to give.

Load generator and upstream need CPU as well, so that two workers on a small machine could never show what
they would do with a core each. What is measured is therefore the CPU time of a request, with one worker and
with two, on one core that both of them fill, while load and upstream have the other. With a core each the
whole is as fast as the worker with the bigger share of the work lets it be: as much as one, times
``cpu(1) / (share x cpu(2))``. It is a bit better in truth, for here the two take turns with the core's cache.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from attrs import evolve, frozen

from bench.errors import BenchError
from bench.load import Request, run
from bench.machine import choose_cores, raise_file_limit
from bench.peers import PROXY, proxy_environment
from bench.procfs import cpu_seconds, family_of
from bench.traffic import GET_PATH
from bench.world import World, surroundings

CONNECTIONS = (32, 256)
#: What two workers are held to, by one.
TARGET = 1.7


@frozen
class Figure:
    """The CPU seconds of a request, and the biggest part of the CPU time that one worker had."""

    cpu: float
    share: float


def times(one: float, two: float, share: float) -> float:
    """Return how many times the requests of one worker two of them serve, with a core each.

    ``one`` and ``two`` are the CPU seconds of a request, ``share`` is the busier worker's.
    """
    return one / (two * share)


def measure(world: World, workers: int, *, connections: int, seconds: int) -> Figure:
    """Start the proxy anew and load it."""

    def environment(world: World, port: int, upstream: int) -> Mapping[str, str]:
        return {
            **proxy_environment(world, port, upstream),
            "MCP_OAUTH2_PROXY_SERVER_WORKERS": str(workers),
            "MCP_OAUTH2_PROXY_SERVER_MAXCONNECTIONSPERADDRESS": "0",
        }

    with ExitStack() as stack:
        running = evolve(PROXY, environment=environment).start(stack, world, world.answers)
        request = Request("GET", GET_PATH, b"", [world.token])
        run(world, running.port, request, connections=connections, seconds=1)
        serving = family_of(running.pid)[1:] or [running.pid]  # the supervisor serves nobody
        before, whole = [cpu_seconds(pid) for pid in serving], cpu_seconds(running.pid)
        seen = run(world, running.port, request, connections=connections, seconds=seconds)
        used = [cpu_seconds(pid) - start for pid, start in zip(serving, before, strict=True)]
        return Figure((cpu_seconds(running.pid) - whole) / seen.answers, max(used) / sum(used))


def lines(world: World, numbers: Sequence[int], rounds: int, seconds: int) -> Iterator[str]:
    """Yield a line for each number of connections, one and two workers measured in turn.

    The least CPU time of all rounds counts: what else the machine does can only add to it.
    """
    for connections in numbers:
        found: dict[int, list[Figure]] = {1: [], 2: []}
        for _ in range(rounds):
            for workers, figures in found.items():
                figures.append(measure(world, workers, connections=connections, seconds=seconds))
        one, two = (min(figure.cpu for figure in found[workers]) for workers in (1, 2))
        share = statistics.median(figure.share for figure in found[2])
        yield (
            f"{connections:5} connections: {one * 1e6:.0f} us a request with one, {two * 1e6:.0f} with two, "
            f"bigger share {share:.0%}: {times(one, two, share):.2f} times the requests (wanted: {TARGET})"
        )


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return 0, or 1 where an answer was wrong or something is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description="Two workers by one.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS)
    chosen = parser.parse_args(arguments)
    cores, files = choose_cores(), raise_file_limit()
    try:
        with surroundings(cores, files) as world:
            for line in lines(world, chosen.connections, chosen.rounds, chosen.seconds):
                print(line, flush=True)
    except BenchError as error:
        print(f"no result: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    sys.exit(main(sys.argv[1:]))
