"""Programs of the tests that a compiler makes, and where such things are kept for the next run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from unittest import SkipTest

#: Seconds for what is fetched or compiled once, by the first test that needs it, which has so much more time:
#: the largest takes a minute where nothing else runs.
INSTALL_TIMEOUT = 600


def cache() -> Path:
    """Return the project's cache directory (XDG Base Directory Specification), which exists."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(home) / "mcp-oauth2-proxy"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def build(command: Sequence[str], source: Path, *, timeout: int) -> None:
    """Run a compiler in ``source``; it knows itself whether there is anything to do.

    Raises SkipTest where the compiler is missing or the build fails or takes more than ``timeout`` seconds.
    """
    if shutil.which(command[0]) is None:
        raise SkipTest(f"no {command[0]} here")
    try:
        done = subprocess.run(
            list(command), cwd=source, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise SkipTest(f"{command[0]}: no build of {source.name} in {timeout} s") from late
    if done.returncode != 0:
        raise SkipTest(f"{command[0]} cannot build {source.name}: {done.stderr.strip()[-300:]}")
