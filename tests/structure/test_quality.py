"""Lint, format and types are part of the suite, so that one command tells the whole truth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

REPOSITORY = Path(__file__).parents[2]


class Quality(SynchronousTestCase):
    """Each check runs the real tool over the tree and shows its output when it objects."""

    def check(self, *command: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        self.assertEqual(done.returncode, 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}")

    def test_ruff_finds_nothing(self) -> None:
        """``ruff check`` is clean."""
        self.check("ruff", "check", ".")

    def test_code_is_formatted(self) -> None:
        """``ruff format --check`` is clean."""
        self.check("ruff", "format", "--check", ".")

    def test_types_hold(self) -> None:
        """mypy, strict and with zope's interfaces, is clean."""
        self.check("mypy")
