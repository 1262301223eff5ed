"""The tools that these tests need, or the readable reason why a test is skipped.

With ``REQUIRE_DEPLOY_TOOLS=1`` in the environment a missing tool fails the test instead.
"""

from __future__ import annotations

import functools
import os
import subprocess
from typing import NoReturn
from unittest import SkipTest

from tests.support.program import REPOSITORY

CHART = REPOSITORY / "deploy" / "helm"
#: Seconds: Go compiles Helm once on a machine, and slow machines take minutes for it.
HELM_INSTALL_TIMEOUT = 900


def missing(reason: str) -> NoReturn:
    """Skip the test for ``reason``, or fail it where the tools are required."""
    if os.environ.get("REQUIRE_DEPLOY_TOOLS") == "1":
        raise AssertionError(f"REQUIRE_DEPLOY_TOOLS=1, but {reason}")
    raise SkipTest(reason)


@functools.cache
def _installed_helm() -> tuple[str, str]:
    """Return the path of Helm, or nothing and the reason."""
    done = subprocess.run(
        [REPOSITORY / "tools" / "helm.sh"],
        capture_output=True,
        text=True,
        check=False,
        timeout=HELM_INSTALL_TIMEOUT,
    )
    return done.stdout.strip(), done.stderr.strip().split("\n")[0]


def helm(*arguments: str, fails: bool = False) -> str:
    """Run Helm in the repository's root; return what it says, on both streams if it ``fails`` as expected."""
    path, reason = _installed_helm()
    if not path:
        missing(reason)
    done = subprocess.run([path, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if (done.returncode != 0) is not fails:
        raise AssertionError(
            f"helm {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout + done.stderr if fails else done.stdout
