"""``python -m tests.soak [SECONDS]``: mixed traffic with faults, and what is left of it."""

from __future__ import annotations

import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.soak.run import Soak


async def soak(reactor: Any, seconds: float, seed: int) -> None:
    """Run once; the process's exit code is 1 where something is left."""
    print(f"seed {seed}", flush=True)
    run = Soak(reactor, seed, lambda line: print(line, flush=True))
    try:
        wrong = await run.run(seconds)
    finally:
        await run.stop()
    print("\n".join(wrong) or "all is back where it was")
    if wrong:
        raise SystemExit(1)


def main(reactor: Any, seconds: str = "600", seed: str = "") -> Deferred[None]:
    """Read the arguments."""
    return Deferred.fromCoroutine(soak(reactor, float(seconds), int(seed or time.time())))


if __name__ == "__main__":
    react(main, sys.argv[1:])
