"""Every command in the documentation does what it says, on this machine, as it is written there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.docs.commands import commands
from tests.service.scene import PATIENCE, SceneCase, exchange
from tests.support.program import REPOSITORY, Program, clean_environment, wait_until

DOCUMENTS = (
    "README.md",
    "docs/configuration.md",
    "docs/deployment.md",
    "docs/performance.md",
    "docs/scaling.md",
    "docs/troubleshooting.md",
)
#: Commands that need what is not on every machine, and the test that carries out what they do.
PROVEN_ELSEWHERE = {
    "docker ": "tests/deploy/test_image.py",
    "helm ": "tests/deploy/test_chart.py",
    "pip install .": "tests/packaging/test_wheel.py",
    "kubectl ": "tests/deploy/test_chart.py",
    "cp deploy/values-production.yaml ": "tests/deploy/test_chart.py",
    "python3 -m venv /opt/": "tests/deploy/test_image.py",
    "/opt/mcp-oauth2-proxy/bin/pip install ": "tests/deploy/test_image.py",
}
READY = b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


def documented(*beginnings: str) -> list[str]:
    """Return the commands of all documents that begin so."""
    found: list[str] = []
    for name in DOCUMENTS:
        path = REPOSITORY / name
        if path.is_file():
            found += [
                line for line in commands(path.read_text(encoding="utf-8")) if line.startswith(beginnings)
            ]
    return found


class Documented(SceneCase):
    """Runs commands in a directory with a ``config.yaml``, with this environment's programs on the path."""

    def setUp(self) -> None:
        super().setUp()
        self.write()
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = clean_environment(PATH=programs)

    def run_shell(self, script: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode, 0, f"{script}\n{done.stdout}{done.stderr}")
        return done.stdout

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return exchange(self.port, READY)[::2] == (200, b"ok")
        return False

    @contextlib.contextmanager
    def started(self, command: str):  # type: ignore[no-untyped-def]
        """Run a command that stays up, until it answers and the test is done with it."""
        program = Program(
            ["bash", "-c", f"exec {command}"], environment=self.environment, directory=self.directory
        )
        try:
            wait_until(self.answers, f"{command} answers", PATIENCE, program)
            yield
        finally:
            program.kill()

    def test_none_is_forgotten(self) -> None:
        """A command that no test here knows makes this one fail."""
        known = ("make ", "mcp-oauth2-proxy ", "twistd ", "curl ", "export ", "grep ", *PROVEN_ELSEWHERE)
        unknown = [line for line in documented("") if not line.startswith(known)]
        self.assertEqual(unknown, [])
        for path in PROVEN_ELSEWHERE.values():
            self.assertTrue((REPOSITORY / path).is_file(), path)

    def test_make_targets(self) -> None:
        """Every ``make`` target that is mentioned is there."""
        for line in documented("make "):
            target = line.split()[1]
            done = subprocess.run(
                ["make", "--dry-run", target], cwd=REPOSITORY, capture_output=True, text=True, check=False
            )
            self.assertEqual(done.returncode, 0, f"{line}\n{done.stderr}")

    def test_serving(self) -> None:
        """Each way to start the proxy brings up one that answers."""
        started = documented("mcp-oauth2-proxy serve", "twistd ")
        self.assertGreaterEqual(len(started), 4)
        for line in dict.fromkeys(started):
            with self.started(line):
                pass

    def test_commands_that_end(self) -> None:
        """The other subcommands succeed and print something, or write the file that they name."""
        for line in dict.fromkeys(documented("mcp-oauth2-proxy ")):
            if " serve" not in line:
                shown = self.run_shell(line)
                written = line.partition("> ")[2]
                self.assertTrue(shown or (self.directory / written).read_text(encoding="utf-8"), line)

    def test_the_environment_alone(self) -> None:
        """The exported variables are a whole configuration."""
        (self.directory / "config.yaml").unlink()
        shown = self.run_shell("\n".join([*documented("export "), "mcp-oauth2-proxy check-config"]))
        self.assertIn("auth.oidcScopes = [openid, profile, email]", shown)
        self.assertIn("auth.clientSecret = ***", shown)

    def test_asking_with_curl(self) -> None:
        """Every ``curl`` gets the answer that the documentation speaks of."""
        if shutil.which("curl") is None:
            raise SkipTest("curl is not installed")
        expected = {
            "/healthz": "ok",
            "/readyz": "ok",
            "/oauth-protected-resource": "authorization_servers",
            "/oauth-authorization-server": "registration_endpoint",
            "/oauth/register": "client_secret",
        }
        asked = documented("curl ")
        with self.started("mcp-oauth2-proxy serve"):
            for line in asked:
                said = self.run_shell(
                    line.replace("localhost:8080", f"127.0.0.1:{self.port}").replace("curl ", "curl -s ")
                )
                key = next(path for path in expected if path in line)
                if key in ("/healthz", "/readyz"):
                    self.assertEqual(said, expected[key])
                else:
                    self.assertIn(expected[key], json.loads(said))
        self.assertGreaterEqual(len(asked), 4)

    def test_finding_a_reference(self) -> None:
        """The reference of a refusal, searched for as the documentation says, leads to its reason."""
        (command,) = documented("grep ")
        proxy = self.scene.start()
        _, _, body = exchange(proxy.port, b"GET /mcp HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x\r\n\r\n")
        reference = json.loads(body)["request_id"]
        proxy.stop()
        _, _, file = command.split()
        (self.directory / file).write_text(proxy.output, encoding="utf-8")
        found = self.run_shell(command.replace(command.split()[1], reference))
        self.assertIn("token_malformed", found)
