"""The order of a run: row by row, round by round, and within a round one peer after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from bench.errors import BenchError, Missing, WrongAnswer
from bench.peers import Peer, Running
from bench.results import Result
from bench.rows import Row, Sample
from bench.world import World

Say = Callable[[str], None]


def order(peers: Sequence[Peer], number: int) -> list[Peer]:
    """Return the peers in the order of round ``number``: each begins in turn."""
    shift = number % len(peers)
    return [*peers[shift:], *peers[:shift]]


def available(peers: Sequence[Peer], say: Say) -> list[Peer]:
    """Return the peers that this machine can run; what is missing is said."""
    found = []
    for peer in peers:
        try:
            peer.prepare()
        except Missing as missing:
            say(f"left out: {peer.title}: {missing}")
        else:
            found.append(peer)
    return found


def possible(rows: Sequence[Row], say: Say) -> list[Row]:
    """Return the rows that this machine can measure; what is missing is said."""
    found = []
    for row in rows:
        try:
            row.needs()
        except Missing as missing:
            say(f"left out: {row.key}: {missing}")
        else:
            found.append(row)
    return found


def _one(row: Row, peer: Peer, running: Running, world: World, seconds: int) -> Sample:
    """Take one figure, with the peer named in whatever goes wrong."""
    try:
        return row.measure(world, running, seconds)
    except WrongAnswer as wrong:
        raise WrongAnswer(f"{row.key}, {peer.title}: {wrong}") from None
    except OSError as error:
        raise BenchError(f"{row.key}, {peer.title}: {error}") from error


def measure(row: Row, peers: Sequence[Peer], world: World, *, rounds: int, seconds: int, say: Say) -> Result:
    """Measure one row.

    :raises WrongAnswer: a peer answered wrongly; no figure of the run is worth anything then.
    """
    samples: dict[str, list[Sample]] = {peer.name: [] for peer in peers}
    with ExitStack() as stack:
        running: dict[str, Running] = {}
        if not row.fresh:
            running = {peer.name: peer.start(stack, world, row.upstream(world)) for peer in peers}
            for peer in peers:  # to warm up: connections, pools, caches, the branches of the interpreter
                _one(row, peer, running[peer.name], world, 1)
        for number in range(rounds):
            for peer in order(peers, number):
                with ExitStack() as own:
                    process = running.get(peer.name) or peer.start(own, world, row.upstream(world))
                    samples[peer.name].append(_one(row, peer, process, world, seconds))
            figures = ", ".join(f"{peer.title} {samples[peer.name][-1].value:.1f}" for peer in peers)
            say(f"{row.key}, round {number + 1} of {rounds}, {row.unit}: {figures}")
    return Result(row, samples)
