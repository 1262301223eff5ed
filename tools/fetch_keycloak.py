#!/usr/bin/env python3
"""Install Keycloak into a cache outside the tree and print where it is.

    tools/fetch_keycloak.py [--check]

The distribution comes from Maven Central by ``mvn dependency:copy``, is unpacked into
``${XDG_CACHE_HOME:-~/.cache}/mcp-oauth2-proxy/`` and built once, so that later starts are fast. A second run
prints the same path at once. ``--check`` only says whether this machine could do it. Exit code 1, with the
reason on stderr, where Java or Maven is missing or the download fails.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Runs on Java 17 (26.8, the line after it, is not on Maven Central yet).
VERSION = "26.7.3"
ARTIFACT = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
MINIMUM_JAVA = 17
#: Options that Keycloak compiles in; the start must repeat none of them.
BUILD_OPTIONS = ("--db=dev-mem", "--health-enabled=true")
#: Seconds: 176 MB over a slow line, and the build on a busy two-core machine.
DOWNLOAD_TIMEOUT = 600
BUILD_TIMEOUT = 300


class CannotInstallError(Exception):
    """This machine cannot have a Keycloak; the text says why, for a person."""


def cache_directory() -> Path:
    """Return the project's cache directory (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mcp-oauth2-proxy"


def home_directory() -> Path:
    """Return where the unpacked and built Keycloak is, or will be."""
    return cache_directory() / f"keycloak-{VERSION}"


def check() -> None:
    """Raise :exc:`CannotInstallError` where Java is missing, or Maven is and nothing is cached yet."""
    java = shutil.which("java")
    if java is None:
        raise CannotInstallError(f"no Java here: a Java {MINIMUM_JAVA} runtime is needed to run Keycloak")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < MINIMUM_JAVA:
        raise CannotInstallError(f"Java {MINIMUM_JAVA} or newer is needed to run Keycloak")
    if not home_directory().is_dir() and shutil.which("mvn") is None:
        raise CannotInstallError("no Maven here: it fetches Keycloak from Maven Central")


def install() -> Path:
    """Return the home of a Keycloak that is ready to start, installing it first where it is not there."""
    check()
    home = home_directory()
    with _locked(cache_directory() / "lock"):
        if not home.is_dir():
            with tempfile.TemporaryDirectory(dir=cache_directory()) as scratch:
                unpacked = _unpack(_download(Path(scratch)), Path(scratch))
                _run([str(unpacked / "bin" / "kc.sh"), "build", *BUILD_OPTIONS], BUILD_TIMEOUT)
                # Only a finished installation ever carries the name that is looked for.
                unpacked.rename(home)
    return home


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process install at a time; the others wait and find it done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _download(scratch: Path) -> Path:
    """Fetch the distribution from Maven Central and return the zip file."""
    _run(
        [
            "mvn",
            "--batch-mode",
            "--quiet",
            "dependency:copy",
            f"-Dartifact={ARTIFACT}",
            f"-DoutputDirectory={scratch}",
        ],
        DOWNLOAD_TIMEOUT,
    )
    return scratch / f"keycloak-quarkus-dist-{VERSION}.zip"


def _unpack(archive: Path, scratch: Path) -> Path:
    """Unpack the zip and make its scripts executable, which zipfile does not."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(scratch)
    home = scratch / f"keycloak-{VERSION}"
    for script in (home / "bin").glob("*.sh"):
        script.chmod(0o755)
    return home


def _run(command: list[str], timeout: float) -> None:
    """Run ``command``; what it says is shown only when it fails."""
    try:
        done = subprocess.run(  # noqa: S603
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotInstallError(f"{command[0]} did not finish within {timeout:.0f} s") from None
    if done.returncode != 0:
        last = done.stdout.decode(errors="replace").strip()[-2000:]
        raise CannotInstallError(f"{command[0]} failed with exit code {done.returncode}:\n{last}")


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code."""
    try:
        if "--check" in arguments:
            check()
        else:
            print(install())
    except CannotInstallError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
