"""The fuzzer runs, finds what is there to be found, and finds nothing in the product."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.fuzzing import DIRECTIONS, NO_ATHERIS, Fuzzing
from tests.fuzz.targets import TARGETS, seeds

#: Seconds for both directions at once; in CI beside the rest of the suite, to which they give way.
SECONDS = int(os.environ.get("FUZZ_SECONDS", "180" if os.environ.get("CI") == "true" else "5"))


class Fuzz(SynchronousTestCase):
    """atheris over the parsers, the channel, the relay and the agent."""

    skip = NO_ATHERIS

    def cache(self) -> Path:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        return Path(directory.name)

    def test_a_planted_defect(self) -> None:
        """An input that breaks a rule ends the run and is kept."""
        # It is found within a second or two, where this lane is let run: others come first.
        report = Fuzzing("planted", seconds=600, cache=self.cache()).report()
        self.assertEqual(len(report.findings), 1)
        self.assertTrue(report.findings[0].startswith(b"GET "))
        self.assertIn("the planted defect", report.text)

    def test_both_directions(self) -> None:
        """For some seconds, from the corpus on, no input breaks a rule; ``make fuzz`` looks for an hour."""
        cache = self.cache()
        for report in [
            run.report() for run in [Fuzzing(name, seconds=SECONDS, cache=cache) for name in DIRECTIONS]
        ]:
            self.assertEqual(report.findings, [], report.text)
            self.assertGreater(report.executed, 100, report.text)
            self.assertGreater(report.coverage, 0, report.text)


class Seeds(SynchronousTestCase):
    """What the fuzzer begins with."""

    def test_kept(self) -> None:
        """What earlier runs found, and what the corpus has, breaks no rule."""
        for direction in DIRECTIONS:
            for data in seeds(direction):
                if len(data) < 1500:
                    TARGETS[direction](data)
