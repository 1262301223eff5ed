"""The tests' own tools for running programs keep what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.program import REPOSITORY, Program, clean_environment, wait_until

_ABANDON = """
import os, sys
from tests.support.program import Program
program = Program([sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"])
print(program.wait_for(r"\\d+", 20)[0], flush=True)
os._exit(1)
"""


class Programs(SynchronousTestCase):
    """Output, exit codes, deadlines, and no orphans."""

    def test_output_and_exit_code(self) -> None:
        """Everything a program says is kept, and its exit code is its own."""
        script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
        program = Program([sys.executable, "-c", script])
        self.assertEqual(program.wait(20), 3)
        self.assertEqual(program.output, "out\nerr\n")

    def test_waiting_for_what_never_comes(self) -> None:
        """A wait ends when the program does, and shows what it said instead."""
        program = Program([sys.executable, "-c", "print('something else')"])
        self.addCleanup(program.kill)
        error = self.assertRaises(AssertionError, program.wait_for, "this", 20)
        self.assertIn("something else", str(error))

    def test_signals_arrive(self) -> None:
        """SIGTERM reaches the program, which may end in its own way."""
        script = (
            "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); "
            "print('ready', flush=True); signal.pause()"
        )
        program = Program([sys.executable, "-c", script])
        program.wait_for("ready", 20)
        self.assertEqual(program.stop(), 7)

    def test_nothing_outlives_the_tests(self) -> None:
        """When the process that started a program dies without a word, the program dies too."""
        done = subprocess.run(
            [sys.executable, "-c", _ABANDON], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        pid = int(done.stdout)
        wait_until(lambda: not _runs(pid), f"process {pid} is gone", 20)

    def test_a_clean_environment(self) -> None:
        """Settings of a proxy that runs elsewhere do not reach the program under test."""
        self.patch(os, "environ", {**os.environ, "MCP_OAUTH2_PROXY_UPSTREAM_URL": "http://elsewhere"})
        found = clean_environment(EXTRA="1")
        self.assertNotIn("MCP_OAUTH2_PROXY_UPSTREAM_URL", found)
        self.assertEqual(found["EXTRA"], "1")


def _runs(pid: int) -> bool:
    """Say whether a process is there and is no zombie that waits for its parent."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(") ")[2][0] != "Z"
