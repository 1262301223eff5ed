"""The programs that the bench starts: none outlives it, and Ctrl-C always ends it."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.support.program import REPOSITORY

#: A bench that somebody ends while it starts a program, of all moments in a callback of the fork.
ENDED = """
import os, signal
from bench.children import spawn
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    spawn(["sleep", "60"], min(os.sched_getaffinity(0)))
except KeyboardInterrupt:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print("nothing is left")
"""


class Spawn(SynchronousTestCase):
    """Starting a program."""

    def test_ctrl_c_while_a_program_starts(self) -> None:
        """It is heard, and the program ends too."""
        command = [sys.executable, "-c", ENDED]
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
        )
        self.assertEqual(done.stdout, "nothing is left\n", done.stderr)
