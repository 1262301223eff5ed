"""``python -m tests.run [PATH | MODULE ...]``: trial over the suite, with a last line that counts.

Tests that mostly wait, for programs and for minutes to pass, run beside the rest in processes of their own
(``--one-by-one``: they do not); what they said comes when the rest has ended. The skips and their reasons
come just before the last line, so that what this machine could not show is seen.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from twisted.trial.reporter import TreeReporter
from twisted.trial.runner import TestLoader, TrialRunner

from tests.lanes import Lane, Outcome, Running, others, stand_back

REPOSITORY = Path(__file__).parents[1]
#: Everything else is run by the process that was started, in about the same time as the first of these, which
#: has what shares a Keycloak, a browser or a compiler's work.
LANES = (
    Lane(
        "outside",
        (
            "tests.browser",
            "tests.clients",
            "tests.clients_real",
            "tests.conformance",
            "tests.demo",
            "tests.deploy",
            "tests.e2e",
            "tests.keycloak_contract",
            "tests.keycloak_points",
        ),
    ),
    Lane("fuzz", ("tests.fuzz",), idle=True),
    # What they promise holds within seconds, or they load the machine.
    Lane("load", ("tests.bench", "tests.chaos", "tests.soak"), last=True),
)


def _test_name(argument: str) -> str:
    """Return trial's name for a path or a dotted name."""
    return argument.rstrip("/").removesuffix(".py").replace("/", ".")


def _run_here(names: Sequence[str], lanes: Sequence[Lane]) -> tuple[Outcome, bool]:
    """Run what no lane has; return what came of it, and whether somebody pressed Ctrl-C."""
    suite = others(TestLoader().loadByNames(list(names), recurse=True), lanes)
    if not suite.countTestCases():
        return Outcome(), False
    runner = TrialRunner(TreeReporter, workingDirectory=str(REPOSITORY / "_trial_temp"))
    result = cast("TreeReporter", runner.run(suite))
    return Outcome.of(result), result.shouldStop


def _finish(running: Running) -> Outcome:
    print(f"\n--- {running.lane.name}", flush=True)
    outcome, said = running.outcome()
    print(said, flush=True)
    return outcome


def run(names: Sequence[str], lanes: Sequence[Lane]) -> Outcome:
    """Run the tests of these dotted names, each in its lane or here; nothing outlives it."""
    planned = [(lane, found) for lane in lanes if (found := lane.names(names))]
    if len(planned) == 1 and all(planned[0][0].has(name) for name in names):
        planned = []  # nobody to be beside of
    with ExitStack() as ends:

        def start(lane: Lane, found: Sequence[str]) -> Running:
            running = Running(lane, found)
            ends.callback(running.end)
            return running

        beside = [start(lane, found) for lane, found in planned if not lane.last]
        outcome, stopped = _run_here(names, [lane for lane, _ in planned])
        if stopped:
            return outcome
        for running in beside:
            outcome += _finish(running)
        for lane, found in planned:
            if lane.last:
                outcome += _finish(start(lane, found))
    return outcome


def main(arguments: Sequence[str], lanes: Sequence[Lane] = LANES) -> int:
    """Run the named tests, all of them by default; return the exit code.

    A shell starts background jobs with SIGINT ignored, and programs would inherit that from us: some
    tests press Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser("python -m tests.run")
    parser.add_argument("--one-by-one", action="store_true", help="all in this process, as coverage needs it")
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--idle", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("tests", nargs="*", default=["tests"], metavar="PATH | MODULE")
    options = parser.parse_args(arguments)
    if options.idle:
        stand_back()
    alone = options.one_by_one or options.report
    try:
        outcome = run([_test_name(name) for name in options.tests], () if alone else lanes)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        return 128 + signal.SIGINT
    if options.report:
        outcome.write(options.report)
    else:
        print("\n".join(outcome.lines()), flush=True)
    return outcome.code


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    sys.exit(main(sys.argv[1:]))
