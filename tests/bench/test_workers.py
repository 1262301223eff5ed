"""``python -m bench.workers``."""

from __future__ import annotations

import re
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from bench.workers import times
from tests.bench.test_bench import REPOSITORY, need


class Workers(SynchronousTestCase):
    """One worker and two."""

    def test_arithmetic(self) -> None:
        """Two that cost as much and share alike are worth two; an uneven share or a dearer request costs."""
        self.assertAlmostEqual(times(100.0, 100.0, 0.5), 2.0)
        self.assertAlmostEqual(times(100.0, 100.0, 0.8), 1.25)
        self.assertAlmostEqual(times(100.0, 110.0, 0.5), 1.818, 3)

    def test_a_short_run(self) -> None:
        """It starts one and two, loads them, and says what it found for each number of connections."""
        need("wrk")
        command = [sys.executable, "-m", "bench.workers"]
        done = subprocess.run(
            [*command, "--connections", "32", "--rounds", "1", "--seconds", "1"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        found = re.findall(
            r"^ +(\d+) connections: .* ([0-9.]+) times the requests", done.stdout, re.MULTILINE
        )
        self.assertEqual([connections for connections, _ in found], ["32"])
