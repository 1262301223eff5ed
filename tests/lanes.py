"""Parts of the suite that run in processes of their own beside the rest, and what came of each."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from unittest import TestCase, TestSuite

from attrs import Factory, asdict, frozen
from twisted.trial.reporter import Reporter

from tests.support.program import Program, clean_environment

#: Seconds that a lane may take: none takes a sixth of it on a slow machine.
_PATIENCE = 3600
#: A tenth of what others get, where all want the processor: nobody stands still (sched(7)).
_NICE = 10


@frozen
class Outcome:
    """How many tests did what; ``skips`` are reasons and how many gave them."""

    passed: int = 0
    failed: int = 0
    skips: Counter[str] = Factory(Counter)

    @classmethod
    def of(cls, result: Reporter) -> Outcome:
        """Return what a finished run has come to."""
        failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
        return cls(result.successes, failed, Counter(str(reason) for _, reason in result.skips))

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.passed + other.passed, self.failed + other.failed, self.skips + other.skips)

    @classmethod
    def read(cls, path: Path) -> Outcome:
        """Return what :meth:`write` has left at ``path``; raises ``OSError`` where it has not."""
        found = json.loads(path.read_text("utf-8"))
        return cls(found["passed"], found["failed"], Counter(found["skips"]))

    def write(self, path: Path) -> None:
        """Leave it for the process that started this one."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def lines(self) -> list[str]:
        """Return the closing lines: the reasons of the skips, and the counts."""
        lines = [f"skipped {count}: {reason}" for reason, count in sorted(self.skips.items())]
        return [*lines, f"{self.passed} passed, {self.failed} failed, {self.skips.total()} skipped"]

    @property
    def code(self) -> int:
        """Return the exit code: nothing failed, and something passed."""
        return 0 if self.passed and not self.failed else 1


@frozen
class Lane:
    """Packages whose tests run one after the other in a process of their own.

    A lane that is ``last`` begins when all others have ended: it has the machine for itself. One that is
    ``idle`` gives way to the others where all want the processor.
    """

    name: str
    packages: tuple[str, ...]
    last: bool = False
    idle: bool = False

    def names(self, asked: Iterable[str]) -> list[str]:
        """Return which of the dotted names that were ``asked`` for, or parts of them, run in this lane."""
        pairs = ((name, package) for name in asked for package in self.packages)
        return [max(pair, key=len) for pair in pairs if within(*pair) or within(*reversed(pair))]

    def has(self, name: str) -> bool:
        """Say whether the test of that dotted name runs in this lane."""
        return any(within(name, package) for package in self.packages)


def within(name: str, package: str) -> bool:
    """Say whether the dotted ``name`` is ``package`` or something in it."""
    return f"{name}.".startswith(f"{package}.")


def others(suite: TestSuite, lanes: Sequence[Lane]) -> TestSuite:
    """Return those tests of ``suite`` that no lane has."""
    return TestSuite(test for test in tests_of(suite) if not any(lane.has(test.id()) for lane in lanes))


def tests_of(suite: TestSuite | TestCase) -> Iterable[TestCase]:
    """Yield every single test of a suite, in its order."""
    if isinstance(suite, TestSuite):
        for one in suite:
            yield from tests_of(one)
    else:
        yield suite


def stand_back() -> None:
    """From now on give way to others that want the processor: this process and its children."""
    os.nice(_NICE)
    # Where the kernel shares by session (sched(7), autogroup) the first counts within the session only.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICE), encoding="ascii")


class Running:
    """A lane's process; what it says is kept, and with this process it ends."""

    def __init__(self, lane: Lane, names: Sequence[str]) -> None:
        self.lane = lane
        self._directory = tempfile.TemporaryDirectory()
        self._report = Path(self._directory.name) / "report"
        options = [f"--report={self._report}", *(["--idle"] if lane.idle else [])]
        self._program = Program(
            [sys.executable, "-m", "tests.run", *options, *names], environment=clean_environment()
        )

    def outcome(self) -> tuple[Outcome, str]:
        """Return what came of it and what it said, at its end: one without a report is a failure."""
        try:
            ended = f"ended with {self._program.wait(_PATIENCE)} before its tests had"
        except AssertionError as late:
            ended = str(late).partition("\n")[0]
        try:
            return Outcome.read(self._report), self._program.output
        except OSError:
            return Outcome(failed=1), f"{self._program.output}\n{self.lane.name}: {ended}\n"

    def end(self) -> None:
        """End whatever still runs."""
        self._program.kill()
        self._directory.cleanup()
