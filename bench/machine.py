"""The machine: its facts, its tools, and which core does what."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from attrs import frozen

from bench.errors import Missing

#: How a missing tool is had.
INSTALL = {
    "wrk": "apt-get install wrk",
    "nginx": "apt-get install nginx-light",
    "go": "https://go.dev/dl/ or apt-get install golang-go (1.21 or newer)",
}
#: Places that a plain user's PATH leaves out.
_EXTRA_PATH = "/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/local/go/bin"


@frozen
class Cores:
    """Which core the measured peer has for itself, and which one load and upstream share."""

    peer: int
    load: int

    @property
    def shared(self) -> bool:
        """Return whether there is only one core for both."""
        return self.peer == self.load


def choose_cores() -> Cores:
    """Return the last two cores this process may use: interrupts are usually on the first."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(peer=allowed[-1], load=allowed[-2] if len(allowed) > 1 else allowed[-1])


def tool(name: str) -> str:
    """Return the path of a program, or raise :exc:`Missing` with how to install it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_EXTRA_PATH}")
    if found is None:
        raise Missing(f"{name} is not installed ({INSTALL[name]})")
    return found


def raise_file_limit() -> int:
    """Let this process and its children open as many files as the machine lets them; return that number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _said(name: str, *arguments: str, pattern: str) -> str:
    """Return what a tool says about its version, "-" where there is none."""
    try:
        done = subprocess.run(
            [tool(name), *arguments], capture_output=True, text=True, check=False, timeout=20
        )
    except (Missing, OSError, subprocess.TimeoutExpired):
        return "-"
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else "?"


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def facts(cores: Cores) -> dict[str, str]:
    """Return what a reader needs to know about this machine to read the figures."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {pages * size / 2**30:.0f} GiB",
        "cores": f"peer on {cores.peer}, load and upstream on {cores.load}"
        + (" (only one core: figures include their disturbance)" if cores.shared else ""),
        "kernel": platform.release(),
        "python": f"{platform.python_version()}, Twisted {version('twisted')}, uvloop {version('uvloop')}, "
        f"httptools {version('httptools')}",
        "go": _said("go", "version", pattern=r"go(\d\S*)"),
        "nginx": _said("nginx", "-v", pattern=r"nginx/(\S+)"),
        "wrk": _said("wrk", "-v", pattern=r"wrk (\S+)"),
        "load average": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }
