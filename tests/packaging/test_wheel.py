"""The wheel: all that the program needs at run time, and nothing of the repository besides."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.program import REPOSITORY, clean_environment


class Wheel(SynchronousTestCase):
    """Built from the tracked files, as ``make build`` does, and unpacked over the installed libraries."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        listed = self.run_quietly("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        source = self.directory / "source"
        for name in filter(None, listed.split("\0")):
            if (REPOSITORY / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                (source / name).write_bytes((REPOSITORY / name).read_bytes())
        wheels = self.directory / "dist"
        pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps")
        self.run_quietly(*pip, "--wheel-dir", str(wheels), str(source))
        (self.wheel,) = wheels.glob("*.whl")

    def run_quietly(self, *command: str, **environment: str) -> str:
        done = subprocess.run(
            command,
            cwd=REPOSITORY if not environment else self.directory,
            env=clean_environment(**environment),
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_what_it_gives(self) -> None:
        """The command, the twistd plugin, the pages' templates and the types; no tests, no bench."""
        with zipfile.ZipFile(self.wheel) as wheel:
            names = set(wheel.namelist())
            wheel.extractall(self.directory / "site")
        self.assertIn("twisted/plugins/mcp_oauth2_proxy_plugin.py", names)
        self.assertIn("mcp_oauth2_proxy/py.typed", names)
        self.assertTrue([name for name in names if name.endswith("templates/consent.html")])
        self.assertNotIn("twisted/__init__.py", names, "it must not shadow Twisted")
        tops = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
        self.assertEqual(tops, {"mcp_oauth2_proxy", "twisted"})
        site = str(self.directory / "site")
        shown = self.run_quietly(sys.executable, "-m", "mcp_oauth2_proxy", "version", PYTHONPATH=site)
        self.assertIn("version:", shown)
        plugins = self.run_quietly(sys.executable, "-m", "twisted", "--help", PYTHONPATH=site)
        self.assertIn("mcp-oauth2-proxy", plugins)
