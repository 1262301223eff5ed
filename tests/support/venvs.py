"""Python environments for clients that cannot share ours: made once from pinned versions, and kept.

Where the package index does not answer, the tests that need one are skipped with the reason.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

from tests.support.builds import INSTALL_TIMEOUT, cache


def python_with(requirements: Path) -> Path:
    """Return the interpreter of an environment with what the file ``requirements`` pins.

    :raises SkipTest: the index does not have it, or does not answer; with ``REQUIRE_NODE=1``, which asks for
        every client, that is a failure.
    """
    text = requirements.read_bytes() + sys.version.encode()
    home = cache() / f"venv-{requirements.stem}-{hashlib.sha256(text).hexdigest()[:12]}"
    with (cache() / f"venv-{requirements.stem}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / ".complete").exists():
            _make(home, requirements)
    return home / "bin" / "python"


def _make(home: Path, requirements: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(home)],
        [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT, check=False)
        if done.returncode != 0:
            reason = f"{requirements.name} cannot be installed: {done.stderr.strip()[-300:]}"
            if os.environ.get("REQUIRE_NODE") == "1":
                raise AssertionError(reason)
            raise SkipTest(reason)
    (home / ".complete").touch()
