"""``python -m tests.run [PATH | MODULE ...]``: trial over the suite, with a last line that counts.

The skips and their reasons come just before that line, so that what this machine could not show is seen.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path

from twisted.trial.reporter import Reporter, TreeReporter
from twisted.trial.runner import TestLoader, TrialRunner

REPOSITORY = Path(__file__).parents[1]


def _test_name(argument: str) -> str:
    """Return trial's name for a path or a dotted name."""
    return argument.rstrip("/").removesuffix(".py").replace("/", ".")


def summary(result: Reporter) -> tuple[list[str], int]:
    """Return the closing lines for a finished run and the process's exit code."""
    reasons = Counter(str(reason) for _, reason in result.skips)
    lines = [f"skipped {count}: {reason}" for reason, count in sorted(reasons.items())]
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    lines.append(f"{result.successes} passed, {failed} failed, {len(result.skips)} skipped")
    return lines, 0 if result.wasSuccessful() and result.successes else 1


def main(arguments: list[str]) -> int:
    """Run the named tests, all of them by default.

    A shell starts background jobs with SIGINT ignored, and programs would inherit that from us: some
    tests press Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path.insert(0, str(REPOSITORY))
    suite = TestLoader().loadByNames([_test_name(name) for name in arguments or ["tests"]], recurse=True)
    runner = TrialRunner(TreeReporter, workingDirectory=str(REPOSITORY / "_trial_temp"))
    lines, code = summary(runner.run(suite))
    print("\n".join(lines), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
