"""``python -m tests.fuzz``: fuzz both directions at once, for ``FUZZ_SECONDS`` (3600).

``python -m tests.fuzz fold [CACHE ...]`` folds what such runs found, here or elsewhere, into the seeds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.folding import fold
from tests.fuzz.fuzzing import DIRECTIONS, Fuzzing

_CACHE = Path(".fuzz")


def main(arguments: Sequence[str]) -> int:
    """Fuzz, or fold; return the exit code: 1 where a rule was broken."""
    if arguments[:1] == ["fold"]:
        for direction in DIRECTIONS:
            print(fold(direction, [Path(name) for name in arguments[1:]] or [_CACHE]), flush=True)
        return 0
    seconds = int(os.environ.get("FUZZ_SECONDS", "3600"))
    runs = [Fuzzing(direction, seconds=seconds, cache=_CACHE) for direction in DIRECTIONS]
    print(f"fuzzing for {seconds} s; see {' and '.join(str(run.log) for run in runs)}", flush=True)
    reports = [run.report() for run in runs]
    print("\n".join(report.text for report in reports))
    return int(any(report.findings for report in reports))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
