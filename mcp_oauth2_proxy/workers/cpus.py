"""How many CPUs this process may use, for ``server.workers: auto``.

The operating system knows two bounds: the CPUs that the process may run on (affinity, cpusets) and, in a
cgroup, the share of their time that it may take (``docker run --cpus``, Kubernetes' limits, ``CPUQuota=``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mcp_oauth2_proxy.config.model import AUTO

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def worker_count(setting: int) -> int:
    """Return how many workers ``server.workers`` means on this machine."""
    return usable_cpus() if setting == AUTO else setting


def usable_cpus(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return the number of CPUs whose time this process may use, at least 1.

    A quota of one and a half CPUs counts as two: with one process the half would never be used.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    for directory in _directories(cgroups, membership):
        quota = _quota(directory)
        if quota is not None:
            allowed = min(allowed, quota)
    return max(1, math.ceil(allowed))


def _directories(cgroups: Path, membership: Path) -> Iterator[Path]:
    """Yield the process's cgroups and all above them; each of them may have a quota (cgroups(7)).

    A line is ``ID:CONTROLLERS:PATH``; in version 2 there are no controllers. Within a container the path is
    often the host's, and not there: then the root is the container's own.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for root in [cgroups / controllers, cgroups / "cpu"] if controllers else [cgroups]:
            own = root / path.lstrip("/")
            yield own
            for parent in own.parents:
                if not parent.is_relative_to(root):
                    break
                yield parent


def _quota(directory: Path) -> float | None:
    """Return the CPUs that a cgroup may use at once, ``None`` where it has no bound."""
    with suppress(OSError, ValueError):
        quota, period = (directory / "cpu.max").read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        microseconds = int((directory / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period_of = int((directory / "cpu.cfs_period_us").read_text(encoding="utf-8"))
        return microseconds / period_of if microseconds > 0 else None
    return None
