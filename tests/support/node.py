"""npm packages for tests: each folder of ``tests/node`` is installed once, as its lock file says, and kept.

Where this machine has no Node.js or no npm the tests that need them are skipped with the reason; with
``REQUIRE_NODE=1`` in the environment they fail instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from unittest import SkipTest

from tests.support.builds import INSTALL_TIMEOUT, cache
from tests.support.program import REPOSITORY

_PROJECTS = REPOSITORY / "tests" / "node"


def node_project(name: str) -> Path:
    """Return the installed copy of ``tests/node/NAME``: a folder with its files and ``node_modules``.

    :raises SkipTest: this machine has no Node.js or no npm, or the registry does not answer.
    """
    try:
        return _installed(_PROJECTS / name)
    except SkipTest as skip:
        if os.environ.get("REQUIRE_NODE") == "1":
            raise AssertionError(f"REQUIRE_NODE=1, but {skip}") from None
        raise


def _installed(project: Path) -> Path:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise SkipTest(f"no {program} here")
    files = sorted(path for path in project.iterdir() if path.is_file())
    named = hashlib.sha256(b"".join(path.name.encode() + b"\0" + path.read_bytes() for path in files))
    home = cache() / f"node-{project.name}-{named.hexdigest()[:12]}"
    with (cache() / f"node-{project.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / ".complete").exists():
            _install(files, home)
    return home


def _install(files: list[Path], home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    for path in files:
        shutil.copy(path, home)
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        raise SkipTest(f"npm ci of tests/node/{home.name} failed: {done.stderr.strip()[-300:]}")
    (home / ".complete").touch()
