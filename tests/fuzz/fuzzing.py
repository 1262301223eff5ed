"""A fuzzing process and its corpus: seeds in the tree, and what it has found interesting in a cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from attrs import frozen

from tests.fuzz.targets import seeds
from tests.support.program import REPOSITORY

#: Why there is no fuzzing here, if there is none.
NO_ATHERIS = (
    "atheris has no wheel for this platform or Python"
    if find_spec("atheris") is None and "REQUIRE_FUZZ" not in os.environ
    else None
)
DIRECTIONS = ("requests", "answers")
#: Longer inputs are about sizes, which the corpus is about; shorter ones are more to the second.
MAX_BYTES = 1500
#: Seconds that one input may take: a machine at work elsewhere may stand still for some.
_PATIENCE = 120
_DONE = re.compile(r"^(?:#|stat::number_of_executed_units:\s+)(\d+)", re.MULTILINE)
_STOPPED = re.compile(r"KeyboardInterrupt: stopping|run interrupted")
_COVERAGE = re.compile(r"cov: (\d+)")


@frozen
class Report:
    """What came of a run. ``findings`` are the inputs that broke a rule."""

    text: str
    executed: int
    coverage: int
    findings: list[bytes]


class Fuzzing:
    """Fuzzes one direction in a process of its own, from now on and for so many seconds."""

    def __init__(self, target: str, *, seconds: int, cache: Path) -> None:
        self._target = target
        corpus, begin, self._found = (cache / target / name for name in ("corpus", "seeds", "findings"))
        for directory in (corpus, begin, self._found):
            directory.mkdir(parents=True, exist_ok=True)
        for data in seeds(target):
            if len(data) <= MAX_BYTES:
                (begin / hashlib.sha1(data).hexdigest()).write_bytes(data)
        #: What libFuzzer says, as it says it.
        self.log = cache / target / "log"
        with self.log.open("w") as log:
            self._process = self._start(target, seconds, corpus, begin, log)

    def _start(
        self, target: str, seconds: int, corpus: Path, begin: Path, log: IO[str]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.fuzz.one", target),
                f"-max_total_time={seconds}",
                f"-max_len={MAX_BYTES}",
                f"-timeout={_PATIENCE}",
                f"-dict={REPOSITORY / 'tests' / 'fuzz' / 'http.dict'}",
                f"-artifact_prefix={self._found.resolve()}/",
                "-print_final_stats=1",
                "-use_value_profile=1",
                "-report_slow_units=3600",
                *(str(directory.resolve()) for directory in (corpus, begin)),
            ],
            cwd=REPOSITORY,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def report(self) -> Report:
        """Wait for the end of the run, which Ctrl-C may bring early, and return what came of it."""
        while self._process.returncode is None:
            with contextlib.suppress(KeyboardInterrupt):  # the process has heard it too
                self._process.wait()
        output = self.log.read_text("utf-8", "replace")
        executed = _DONE.findall(output)
        coverage = _COVERAGE.findall(output)
        findings = [path.read_bytes() for path in sorted(self._found.iterdir())]
        if self._process.returncode and not findings and not _STOPPED.search(output):
            raise RuntimeError(f"the fuzzer has failed:\n{output[-3000:]}")
        report = Report(
            text="",
            executed=int(executed[-1]) if executed else 0,
            coverage=int(coverage[-1]) if coverage else 0,
            findings=findings,
        )
        lines = [f"{self._target}: {report.executed} inputs, {report.coverage} branches"]
        if findings:
            lines += [output[-3000:], *(f"breaks a rule: {data!r}" for data in findings)]
            lines += [f"kept in {self._found}"]
        return Report("\n".join(lines), report.executed, report.coverage, findings)
