"""What the kernel's files are read as."""

from __future__ import annotations

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from bench import procfs

# Fields 3 to 18 of proc(5): state, ppid, pgrp, session, tty, tpgid, flags, four fault counts, then the times.
_FIELDS = "S {parent} 7 7 0 -1 4194560 1 2 3 4 {utime} {stime} {cutime} {cstime} 20 0 1 0 100"


def stat_line(name: str, **values: int) -> str:
    """Return a line as of ``/proc/PID/stat``."""
    numbers = {"parent": 1, "utime": 0, "stime": 0, "cutime": 0, "cstime": 0, **values}
    return f"42 ({name}) {_FIELDS.format(**numbers)}"


class StatLines(SynchronousTestCase):
    """``/proc/PID/stat`` holds the program's name unescaped."""

    @given(
        name=st.text(max_size=15), parent=st.integers(0, 2**22), times=st.tuples(*[st.integers(0, 2**40)] * 4)
    )
    def test_no_name_shifts_the_fields(self, name: str, parent: int, times: tuple[int, ...]) -> None:
        """A process called ``) R 1 (`` is charged to its own account all the same."""
        utime, stime, cutime, cstime = times
        line = stat_line(name, parent=parent, utime=utime, stime=stime, cutime=cutime, cstime=cstime)
        self.assertEqual(procfs.parent_of(line), parent)
        self.assertEqual(procfs.ticks_of(line), utime + stime)
        self.assertEqual(procfs.reaped_ticks_of(line), cutime + cstime)


class Memory(SynchronousTestCase):
    """``smaps_rollup`` is read by its Pss line."""

    def test_pss_is_the_figure(self) -> None:
        """Neither Rss nor the parts of Pss are taken for it."""
        text = "Rss:     9000 kB\nPss:     1780 kB\nPss_Dirty:  112 kB\nPss_Anon:  100 kB\n"
        self.assertEqual(procfs.memory_of(text), 1780 * 1024)

    def test_a_file_without_it_is_refused(self) -> None:
        """A kernel that does not say it does not count as zero bytes."""
        self.assertRaises(ValueError, procfs.memory_of, "Rss: 9000 kB\n")


class Families(SynchronousTestCase):
    """A peer is its process and everything below."""

    def test_children_of_children_count_and_strangers_do_not(self) -> None:
        """nginx is its master and its worker, whoever else runs."""
        self.assertEqual(procfs.descendants(10, {10: 1, 11: 10, 12: 11, 13: 1, 14: 12}), [10, 11, 12, 14])

    def test_a_process_is_charged_for_what_it_does(self) -> None:
        """A process that has worked and now waits is charged for what its own clock says it used."""
        work = "\n".join(
            (
                "import time",
                "while time.process_time() < 0.2: pass",
                "print(time.process_time(), flush=True)",
                "input()",
            )
        )
        worker = subprocess.Popen(
            [sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(worker.communicate, "\n")
        assert worker.stdout is not None
        own = float(worker.stdout.readline())
        self.assertGreaterEqual(own, 0.2)
        self.assertLess(abs(procfs.cpu_seconds(worker.pid) - own), 0.05)

    def test_memory_that_is_taken_shows_whole(self) -> None:
        """What this process holds more is what it is charged more."""
        size = 32 * 2**20
        memory = procfs.memory_bytes(os.getpid())
        taken = bytearray(os.urandom(size))
        self.assertGreater(procfs.memory_bytes(os.getpid()) - memory, 0.9 * len(taken))
