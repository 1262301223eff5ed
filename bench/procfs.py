"""CPU time and memory of a process with all its threads and children, as Linux accounts for them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
_TICK = 1 / os.sysconf("SC_CLK_TCK")


def parent_of(stat: str) -> int:
    """Return the parent's id from ``/proc/PID/stat``; the name in parentheses may hold anything."""
    return int(stat.rpartition(")")[2].split()[1])


def ticks_of(stat: str) -> int:
    """Return utime + stime of ``/proc/PID/stat``, in clock ticks."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def reaped_ticks_of(stat: str) -> int:
    """Return cutime + cstime of ``/proc/PID/stat``: what children that have ended used, in clock ticks."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[13]) + int(fields[14])


def memory_of(smaps_rollup: str) -> int:
    """Return Pss of ``/proc/PID/smaps_rollup`` in bytes: shared pages count once over their sharers."""
    found = re.search(r"^Pss:\s+(\d+) kB$", smaps_rollup, re.MULTILINE)
    if found is None:
        raise ValueError("smaps_rollup without a Pss line")
    return int(found[1]) * 1024


def descendants(root: int, parents: Mapping[int, int]) -> list[int]:
    """Return ``root`` and every process below it; ``parents`` maps each process to its parent."""
    family = [root]
    for member in family:
        family.extend(child for child, parent in parents.items() if parent == member)
    return family


def family_of(pid: int, proc: Path = PROC) -> list[int]:
    """Return ``pid`` and the processes below it that run now."""
    parents: dict[int, int] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = parent_of((entry / "stat").read_text(errors="replace"))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return descendants(pid, parents)


def _used_by(folder: Path) -> float:
    """Return the CPU seconds of one process and of its children that were reaped."""
    total = reaped_ticks_of((folder / "stat").read_text(errors="replace")) * _TICK
    for thread in (folder / "task").iterdir():
        try:
            total += int((thread / "schedstat").read_text().split()[0]) / 1e9
        except FileNotFoundError:
            total += ticks_of((thread / "stat").read_text(errors="replace")) * _TICK
    return total


def cpu_seconds(pid: int, proc: Path = PROC) -> float:
    """Return the CPU seconds that ``pid`` and its children, running or reaped, have used so far.

    Read from each thread's ``schedstat``, which counts nanoseconds; from ``stat``, whose tick is
    10 ms, where the kernel keeps none.
    """
    total = 0.0
    for member in family_of(pid, proc):
        # One that ends just now is its parent's to account for.
        with suppress(FileNotFoundError, ProcessLookupError):
            total += _used_by(proc / str(member))
    return total


def memory_bytes(pid: int, proc: Path = PROC) -> int:
    """Return the memory of ``pid`` and its children (Pss) in bytes."""
    total = 0
    for member in family_of(pid, proc):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended and holds none
            total += memory_of((proc / str(member) / "smaps_rollup").read_text())
    return total
