"""The Go peer's program: built once a version of its sources, into a cache outside the tree."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from bench.errors import Missing
from bench.machine import tool

SOURCES = Path(__file__).with_name("go-peer")
_FILES = ("main.go", "go.mod", "go.sum")
#: Seconds a build may take, the download of its one module included.
_BUILD_TIMEOUT = 180


def cache_directory() -> Path:
    """Return where built peers are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mcp-oauth2-proxy" / "bench"


def build() -> Path:
    """Return the program, building it where this version of it is not there yet.

    :raises Missing: there is no Go, or it cannot build here (its module cannot be fetched, for one).
    """
    go = tool("go")
    digest = hashlib.sha256()
    for name in _FILES:
        digest.update((SOURCES / name).read_bytes())
    digest.update(subprocess.run([go, "version"], capture_output=True, check=True).stdout)
    program = cache_directory() / f"go-peer-{digest.hexdigest()[:16]}"
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_suffix(f".{os.getpid()}")
    command = [go, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-o", str(unfinished), "."]
    try:
        subprocess.run(command, cwd=SOURCES, capture_output=True, check=True, timeout=_BUILD_TIMEOUT)
    except subprocess.CalledProcessError as error:
        raise Missing(f"the Go peer does not build: {error.stderr.decode().strip()[-500:]}") from None
    except subprocess.TimeoutExpired:
        raise Missing(f"the Go peer was not built within {_BUILD_TIMEOUT} s") from None
    unfinished.replace(program)
    return program
