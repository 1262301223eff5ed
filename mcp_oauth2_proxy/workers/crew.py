"""The supervisor's rules: when the whole is ready, and when a dead worker is replaced. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from mcp_oauth2_proxy.workers.messages import Report

#: Seconds until a worker that died is replaced: at first, and at most. The pause doubles with each death.
FIRST_PAUSE, LAST_PAUSE = 0.5, 10.0
#: A worker that has lived for so many seconds died of something new: the pauses begin anew.
STEADY = 60.0


def next_pause(last: float, lived: float) -> float:
    """Return the pause before a replacement, after the ``last`` one (0: none) and a life of ``lived``."""
    if not last or lived >= STEADY:
        return FIRST_PAUSE
    return min(2 * last, LAST_PAUSE)


def in_the_way(reports: Mapping[int, Report | None], *, complete: bool, but: int | None = None) -> list[str]:
    """Return what keeps the workers, ``but`` one of them, from being ready: what ``/readyz`` says of them.

    Ready is what can take requests. Only workers that listen get any, so those count, and each must be
    ready. One that died does not count: what it would have taken waits in the shared socket for the others,
    and to take the whole away from its clients because of it would turn a small loss into a big one. Until
    the whole has been ``complete`` once, every worker counts: a service that starts is up when all of it is.
    """
    found = []
    for number, report in sorted(reports.items()):
        if number == but:
            continue
        if report is not None and report.listens:
            found += [f"worker {number}: {reason}" for reason in report.reasons]
        elif not complete:
            found.append(f"worker {number}: not up yet")
    if but is None and not found and not any(report and report.listens for report in reports.values()):
        found.append("no worker is up")
    return found


def describe_end(exit_code: int | None, signal_number: int | None) -> str:
    """Return how a process ended, for the log."""
    if signal_number is None:
        return f"ended with exit code {exit_code}"
    try:
        name = signal.Signals(signal_number).name
    except ValueError:
        name = f"signal {signal_number}"
    return f"was killed by {name}"
