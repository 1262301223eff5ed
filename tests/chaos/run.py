"""One run: clients that live, faults that come and go, and a judge who looks on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, gatherResults

from tests.chaos.clients import OTHERS, PAUSE, REUSE, STEPS, Client, begin
from tests.chaos.faults import Breaker, Episode, schedule
from tests.chaos.hammer import Hammer
from tests.chaos.history import Calm, Moment, Recovery
from tests.chaos.invariants import AFTER_THE_END, HEALING
from tests.chaos.world import Plan, World

#: Clients, fewer where a real Keycloak hashes their passwords on the same cores, and how many of them stay
#: logged in for the whole run.
CLIENTS, AT_KEYCLOAK, LASTING = 6, 4, 2
#: Seconds of a run after which somebody has used a refresh token once more, long after its first use.
_LONG = 60.0
#: Seconds that the first of everything may take: a Keycloak that has just started is slow.
_WARMING = 60.0


@frozen
class Outcome:
    """What came out: a text for each violation, and how often each step and each second use worked."""

    violations: list[str]
    counts: dict[str, int]
    recoveries: list[float]
    seconds: float

    @property
    def idle(self) -> list[str]:
        """Return the steps that nobody ever succeeded in: a run that does nothing proves nothing."""
        wanted = [*STEPS, *OTHERS, AFTER_THE_END, *([REUSE] if self.seconds > _LONG else [])]
        twice = [f"{what} {how}" for what in ("state", "code", "refresh") for how in ("again", "at once")]
        return [step for step in (*wanted, *twice) if not self.counts.get(step)]


#: What happens to a world and its clients in a run: it yields the seconds of each recovery.
Story = Callable[[World, list[Client]], AsyncIterator[float]]


def faults(seed: str, seconds: float) -> Story:
    """Return the story in which everything breaks, for about ``seconds``."""

    async def story(world: World, clients: list[Client]) -> AsyncIterator[float]:
        for episode in schedule(seed, seconds):
            yield await _endure(world, clients, episode)

    return story


def rolling_restart(rounds: int) -> Story:
    """Return the story in which each replica in turn is stopped, started and reloaded: nothing fails."""

    async def story(world: World, clients: list[Client]) -> AsyncIterator[float]:
        hammer = Hammer(world, clients[:LASTING])
        await hammer.start()
        for _ in range(rounds):
            for replica in world.replicas:
                world.note(f"replica {replica.name} gets SIGTERM")
                await replica.stop()
                await replica.start()
                world.note(f"replica {replica.name} is ready again")
                if world.plan.workers > 1:
                    world.note(f"replica {replica.name} gets SIGHUP")
                    await replica.reload()
                    world.note(f"replica {replica.name} has new workers")
            yield await _recovered(world, clients)
        exits = [code for replica in world.replicas for code in replica.exits]
        world.say(f"{hammer.answered} more calls were answered; exit codes: {exits}")

    return story


async def run(
    reactor: Any, seed: str, plan: Plan, story: Story, say: Callable[[str], None], *, pause: float = PAUSE
) -> Outcome:
    """Run a story to its end, or until a rule is broken; clients rest ``pause`` seconds at most."""
    world = World(reactor, plan, say)
    clients: list[Client] = []
    lives: list[Deferred[None]] = []
    recoveries: list[float] = []
    try:
        await world.start()
        clients = [
            Client(world, f"client {number}", seed, pause, ends=number >= LASTING)
            for number in range(AT_KEYCLOAK if plan.keycloak else CLIENTS)
        ]
        lives = begin(clients)
        await _recovered(world, clients)
        async for took in story(world, clients):
            recoveries.append(took)
            if world.referee.violations:
                break
        if world.referee.violations:
            say(f"nginx says:\n{world.nginx.errors[-2000:]}")
        await world.sleep(1)  # what follows a violation belongs to its history
    finally:
        world.stopping = True
        await gatherResults(lives)
        await world.stop()
    counts: dict[str, int] = {}
    for client in clients:
        for step, count in (*client.counts.items(), *client.member.repeats.items()):
            counts[step] = counts.get(step, 0) + count
    seconds = time.time() - world.began.wall
    return Outcome([world.told(one) for one in world.referee.violations], counts, recoveries, seconds)


async def _endure(world: World, clients: list[Client], episode: Episode) -> float:
    """Live through an episode; return the seconds that it took until everything worked again."""
    await world.sleep(episode.calm)
    world.saw(Calm("chaos", False))
    breaker = Breaker(world)
    await gatherResults([Deferred.fromCoroutine(breaker.befall(fault)) for fault in episode.faults])
    return await _recovered(world, clients)


async def _recovered(world: World, clients: list[Client]) -> float:
    """Have every client try everything; tell how long it took, and what did not work in time."""
    began = world.pace.now()
    patience = HEALING if world.warm else _WARMING
    for client in clients:
        client.hurry = began
    while (missing := await _missing(world, clients, began)) and (
        world.pace.now().pace - began.pace < patience
    ):
        await world.sleep(0.05)
    for client in clients:
        client.hurry = None
    took = world.pace.now().pace - began.pace
    world.saw(Recovery("chaos", round(took, 1), missing))
    world.say(f"{time.time() - world.began.wall:7.1f} everything works again after {took:.1f} s")
    world.warm = True
    if not missing:
        world.saw(Calm("chaos", True))
    return took


async def _missing(world: World, clients: list[Client], since: Moment) -> str:
    """Return who could not do what since, or which replica is not ready as a whole."""
    lacking = {client.name: client.missing(since) for client in clients}
    missing = ", ".join(f"{name}: {'+'.join(steps)}" for name, steps in lacking.items() if steps)
    if missing:
        return missing
    reasons = [await replica.unready() for replica in world.replicas]
    return ", ".join(reason for reason in reasons if reason)
