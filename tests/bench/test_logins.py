"""The measurement of logins: the started proxy, its store, and people who log in."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.logins import STEPS, Figure, table
from tests.bench.test_bench import REPOSITORY, leftovers


class Logins(SynchronousTestCase):
    """``python -m bench.logins``."""

    def test_prints_the_table_and_leaves_nothing(self) -> None:
        """Each step has a line whose figure is more than nothing; no process and no file is left."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(folder.rmdir)
        options = ("--clients", "8", "--rounds", "1", "--store", "sqlite")
        done = subprocess.run(
            [sys.executable, "-m", "bench.logins", *options],
            cwd=REPOSITORY,
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        for title in STEPS:
            found = re.search(rf"^\| {title} \| (\d+\.\d\d) \|", done.stdout, re.MULTILINE)
            assert found is not None, done.stdout
            self.assertGreater(float(found[1]), 0)
        self.assertEqual(list(folder.iterdir()), [])
        self.assertEqual(leftovers(folder), [])

    def test_medians(self) -> None:
        """One slow round does not move a figure; what a core does in a second is its inverse."""
        rounds = [Figure(2.0, 0.1, 1.0), Figure(9.0, 0.5, 9.0), Figure(2.0, 0.1, 1.0)]
        self.assertIn("| x | 2.00 | 500 | 0.10 | 1.0 |", table({"x": rounds}))
