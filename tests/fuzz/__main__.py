"""``python -m tests.fuzz``: fuzz both directions at once, for ``FUZZ_SECONDS`` (3600)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.fuzz.fuzzing import DIRECTIONS, Fuzzing

if __name__ == "__main__":
    seconds = int(os.environ.get("FUZZ_SECONDS", "3600"))
    runs = [Fuzzing(direction, seconds=seconds, cache=Path(".fuzz")) for direction in DIRECTIONS]
    print(f"fuzzing for {seconds} s; see {' and '.join(str(run.log) for run in runs)}", flush=True)
    reports = [run.report() for run in runs]
    print("\n".join(report.text for report in reports))
    sys.exit(any(report.findings for report in reports))
