"""Where there can be no Keycloak, a person reads why: the installer's and the suite's own behaviour."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.program import REPOSITORY

_JAVA_17 = "echo 'openjdk version \"17.0.15\" 2025-04-15' >&2"
_JAVA_11 = "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2"


class WithoutKeycloak(SynchronousTestCase):
    """A machine that lacks something, made of an empty cache and a PATH with only what a test puts there."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "bin"
        self.path.mkdir()
        self.cache = Path(directory.name) / "cache"
        self.have("sh", None)

    def have(self, name: str, script: str | None) -> None:
        """Put a program on the PATH: the machine's own, or one that does what ``script`` says."""
        target = self.path / name
        if script is None:
            found = shutil.which(name)
            assert found is not None
            target.symlink_to(found)
        else:
            target.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            target.chmod(0o755)

    def run_here(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a Python command on that machine."""
        kept = {name: value for name, value in os.environ.items() if name != "REQUIRE_KEYCLOAK"}
        kept |= {"PATH": str(self.path), "XDG_CACHE_HOME": str(self.cache), **environment}
        return subprocess.run(
            [sys.executable, *command], cwd=REPOSITORY, env=kept, capture_output=True, text=True, check=False
        )

    def assert_said(self, done: subprocess.CompletedProcess[str], message: str) -> None:
        """The installer failed with this one line."""
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn(message, done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_no_java(self) -> None:
        """Without Java the installer says that Java is missing."""
        self.assert_said(self.run_here("tools/fetch_keycloak.py"), "no Java here")

    def test_old_java(self) -> None:
        """With a Java that is too old it says which one is needed."""
        self.have("java", _JAVA_11)
        self.assert_said(self.run_here("tools/fetch_keycloak.py", "--check"), "Java 17 or newer")

    def test_no_maven(self) -> None:
        """Without Maven it says what Maven is needed for."""
        self.have("java", _JAVA_17)
        self.assert_said(self.run_here("tools/fetch_keycloak.py"), "no Maven here")

    def test_a_download_that_fails(self) -> None:
        """When Maven fails its last words are shown, and nothing half done stays in the cache."""
        self.have("java", _JAVA_17)
        self.have("mvn", "echo 'Could not transfer artifact'; exit 1")
        self.assert_said(self.run_here("tools/fetch_keycloak.py"), "Could not transfer artifact")
        self.assertEqual([path.name for path in (self.cache / "mcp-oauth2-proxy").iterdir()], ["lock"])

    def trial(self, **environment: str) -> str:
        """Run a test that needs Keycloak and return what trial says."""
        name = "tests.keycloak_contract.test_keycloak.KeycloakPublished.test_unknown_realm"
        temporary = f"--temp-directory={self.cache}-trial"
        return self.run_here("-m", "twisted.trial", temporary, name, **environment).stdout

    def test_the_tests_are_skipped_with_the_reason(self) -> None:
        """``make test`` without Java skips what needs Keycloak and says why."""
        said = self.trial()
        self.assertIn("PASSED (skips=1)", said)
        self.assertIn("no real Keycloak: no Java here", said)

    def test_the_tests_fail_where_keycloak_is_required(self) -> None:
        """With ``REQUIRE_KEYCLOAK=1`` the same is a failure."""
        said = self.trial(REQUIRE_KEYCLOAK="1")
        self.assertIn("FAILED", said)
        self.assertIn("REQUIRE_KEYCLOAK=1, but no Java here", said)
