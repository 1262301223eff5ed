"""``python -m tests.chaos``: run the suite and print what it found."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from typing import Any
from unittest import SkipTest

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.chaos.clients import PAUSE
from tests.chaos.faults import schedule
from tests.chaos.run import Outcome, faults, rolling_restart, run
from tests.chaos.world import Plan


def options(arguments: list[str]) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long, roughly (default: 600)")
    parser.add_argument("--seed", default="", help="repeats a run's faults and choices (default: a new one)")
    parser.add_argument("--workers", type=int, default=2, help="server.workers of each replica (default: 2)")
    parser.add_argument("--provider", choices=("embedded", "keycloak"), default="embedded")
    parser.add_argument(
        "--rolling", type=int, metavar="ROUNDS", help="no faults: stop and start each replica in turn"
    )
    parser.add_argument("--log-level", default="WARN", help="of the replicas, shown at a violation")
    return parser.parse_args(arguments)


def _say(line: str) -> None:
    print(line, flush=True)


def verdict(outcome: Outcome) -> list[str]:
    """Return what was wrong, nothing where all is well."""
    wrong = list(outcome.violations)
    if not wrong and outcome.idle:
        wrong.append(f"never tried, or never worked: {', '.join(outcome.idle)}")
    return wrong


def main(reactor: Any) -> Deferred[None]:
    """Run; the process's exit code is 1 where a rule was broken."""
    chosen = options(sys.argv[1:])
    seed = chosen.seed or f"{time.time_ns() % 10**9}"
    again = ["make", "chaos", f"CHAOS_SEED={seed}", f"CHAOS_SECONDS={chosen.seconds:g}"]
    again += [f"CHAOS_WORKERS={chosen.workers}", f"CHAOS_PROVIDER={chosen.provider}"]
    plan = Plan(
        chosen.workers,
        chosen.provider == "keycloak",
        chosen.log_level,
        direct=not chosen.rolling,
        sticky=bool(chosen.rolling),
    )
    if chosen.rolling:
        story, pause = rolling_restart(chosen.rolling), 0.05
        again = ["python", "-m", "tests.chaos", *sys.argv[1:]]
    else:
        story, pause = faults(seed, chosen.seconds), PAUSE
    _say(f"to replay: {shlex.join(again)}")
    if not chosen.rolling:
        for episode in schedule(seed, chosen.seconds):
            _say(f"  {episode.calm:.1f} s calm, then " + ", ".join(map(str, episode.faults)))

    async def whole() -> None:
        try:
            outcome = await run(reactor, seed, plan, story, _say, pause=pause)
        except SkipTest as skip:
            raise SystemExit(str(skip)) from None
        _say(", ".join(f"{step}: {count}" for step, count in sorted(outcome.counts.items())))
        wrong = verdict(outcome)
        if wrong:
            _say("\n\n".join(wrong))
            _say(f"to replay: {shlex.join(again)}")
            raise SystemExit(1)
        _say(f"all rules held; slowest recovery {max(outcome.recoveries):.1f} s")

    return Deferred.fromCoroutine(whole())


if __name__ == "__main__":
    react(main, [])
