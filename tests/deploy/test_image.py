"""The Dockerfile: what it says, and the same steps carried out.

There may be no Docker engine where tests run. The steps are read from the Dockerfile itself and carried out
in a Debian root (``tests/deploy/image.py`` says how); Python is Debian's there, all else is as written.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import ClassVar

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.deploy.dockerfile import Stage, parse, parse_file
from tests.deploy.image import Image, build, run_command
from tests.support.program import REPOSITORY, Program, free_port

#: Seconds for a program to start on a busy machine.
_START = 30


class Parser(SynchronousTestCase):
    """The reader of Dockerfiles, on which the rest relies."""

    def test_steps(self) -> None:
        """Comments and continued lines are read as Docker reads them."""
        (stage,) = parse(
            'FROM a AS b\n# no\nRUN --mount=type=cache,target=/x one && \\\n# no\n  two\nCMD ["x", "y z"]\n'
        )
        self.assertEqual((stage.base, stage.name), ("a", "b"))
        run, command = stage.steps
        self.assertEqual(run.flags, {"mount": "type=cache,target=/x"})
        self.assertEqual(run.value.split(), ["one", "&&", "two"])
        self.assertEqual(command.words(), ["x", "y z"])

    def test_unknown_instructions(self) -> None:
        """A step that these tests cannot carry out is an error, not silence."""
        with self.assertRaises(ValueError):
            parse("FROM a\nVOLUME /data\n")

    @given(st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, max_size=6))
    def test_continuation(self, words: list[str]) -> None:
        """A command means the same however its lines are broken."""
        (stage,) = parse("FROM a\nRUN " + " \\\n    ".join(words) + "\n")
        self.assertEqual(stage.steps[0].words(), words)


class File(SynchronousTestCase):
    """What can be seen without building."""

    def setUp(self) -> None:
        self.stages: list[Stage] = parse_file(REPOSITORY / "Dockerfile")

    def test_contract(self) -> None:
        """`docker run -v $(pwd)/config.yaml:/app/config.yaml IMAGE` runs `mcp-oauth2-proxy serve` in /app."""
        last = {step.name: step for step in self.stages[-1].steps}
        self.assertEqual(last["ENTRYPOINT"].words(), ["mcp-oauth2-proxy"])
        self.assertEqual(last["CMD"].words(), ["serve"])
        self.assertEqual(last["WORKDIR"].value, "/app")
        self.assertEqual(last["EXPOSE"].value, "8080")
        self.assertEqual(last["STOPSIGNAL"].value, "SIGTERM")
        self.assertRegex(last["USER"].value, r"^[1-9]\d*:[1-9]\d*$")

    def test_stages(self) -> None:
        """The runtime is a slim image of the Python that the environment was made with."""
        self.assertEqual(len(self.stages), 2)
        self.assertEqual(self.stages[0].base, self.stages[1].base)
        self.assertRegex(self.stages[1].base, r"^python:3\.1[1-9]-slim$")

    def test_version(self) -> None:
        """The label's default is the version of the package."""
        (version,) = [step.pairs() for step in self.stages[1].steps if step.value.startswith("VERSION=")]
        setup = (REPOSITORY / "setup.py").read_text(encoding="utf-8")
        self.assertIn(f'version="{version["VERSION"]}"', setup)

    def test_context(self) -> None:
        """Everything that is copied reaches the builder, and nothing else of the tree does."""
        lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
        rules = [line for line in lines if line and not line.startswith("#")]
        self.assertEqual(rules[0], "*")
        allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
        copies = [step for stage in self.stages for step in stage.steps if step.name == "COPY"]
        copied = {source for step in copies if not step.flags for source in step.words()[:-1]}
        self.assertEqual(copied, allowed)
        self.assertEqual({name for name in copied if not (REPOSITORY / name).exists()}, set())


class Built(SynchronousTestCase):
    """The image, built by the steps of the file, and run read-only as its own user."""

    directory: ClassVar[tempfile.TemporaryDirectory[str]]
    image: ClassVar[Image | None] = None

    def setUp(self) -> None:
        if Built.image is None:
            directory = tempfile.TemporaryDirectory(prefix="mcp-oauth2-proxy-image-")
            Built.image = build(
                Path(directory.name), VERSION="1.2.3", REVISION="abc123", CREATED="2026-01-02"
            )
            Built.directory = directory
        self.built = Built.image
        self.port = free_port()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.config = Path(directory.name) / "config.yaml"
        self.config.write_text(
            f"server: {{listenAddress: '127.0.0.1:{self.port}'}}\n"
            "upstream: {url: 'http://127.0.0.1:9'}\n"
            "auth:\n  baseUrl: https://mcp-proxy.example.com\n  issuerUrl: http://127.0.0.1:9/realms/myrealm\n"
            "  clientId: mcp-proxy\n  clientSecret: image-secret\n",
            encoding="utf-8",
        )

    def run_once(self, *arguments: str, entrypoint: str | None = None) -> subprocess.CompletedProcess[str]:
        command = run_command(self.built, self.config, *arguments, entrypoint=entrypoint)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_START)

    def started(self, *arguments: str, entrypoint: str | None = None) -> Program:
        program = Program(run_command(self.built, self.config, *arguments, entrypoint=entrypoint))
        self.addCleanup(program.kill)
        program.wait_for(r"listening on", _START)
        return program

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=_START) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, answer.read().decode()

    def test_version(self) -> None:
        """`version` says what the image was built of, and the labels say the same."""
        done = self.run_once("version")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("abc123", done.stdout)
        self.assertIn("2026-01-02", done.stdout)
        labels = {name.rpartition(".")[2]: text for name, text in self.built.labels.items()}
        self.assertEqual(
            (labels["version"], labels["revision"], labels["created"]), ("1.2.3", "abc123", "2026-01-02")
        )

    def test_check_config(self) -> None:
        """`check-config` finds the mounted file by itself, and the build facts are not taken for settings."""
        done = self.run_once("check-config")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("https://mcp-proxy.example.com", done.stdout)
        self.assertNotIn("image-secret", done.stdout + done.stderr)

    def test_serve(self) -> None:
        """Without arguments it serves: alive, not ready without Keycloak, and it ends on SIGTERM with 0."""
        program = self.started()
        self.assertEqual(self.get("/healthz"), (200, "ok"))
        self.assertEqual(self.get("/readyz")[0], 503)
        self.assertEqual(self.get("/.well-known/oauth-protected-resource")[0], 200)
        self.assertEqual(program.stop(), 0, program.output)
        self.assertNotIn("Traceback", program.output)

    def test_twistd(self) -> None:
        """twistd runs the same service from the same image, and misses no file that it cannot write."""
        program = self.started("-n", "--pidfile=", "mcp-oauth2-proxy", entrypoint="twistd")
        self.assertEqual(self.get("/healthz"), (200, "ok"))
        # twistd, once it has stopped, lets the signal end it, as a shell expects.
        self.assertEqual(program.stop(), 128 + signal.SIGTERM, program.output)
        self.assertIn("stopped", program.output)
        self.assertNotIn("Unable to write", program.output)

    def test_nothing_is_writable(self) -> None:
        """It runs as its numeric user on a root that takes no file, without any capability."""
        done = self.run_once(
            "-c", "id -u; id -g; touch /app/x /tmp/x; grep CapEff /proc/self/status", entrypoint="sh"
        )
        self.assertEqual(done.stdout.split(), ["65532", "65532", "CapEff:", "0000000000000000"])
        self.assertEqual(done.stderr.count("Read-only file system"), 2, done.stderr)

    def test_no_tools_are_left(self) -> None:
        """No installer and no compiler are in the image."""
        done = self.run_once("-c", "command -v pip pip3 gcc cc make git", entrypoint="sh")
        self.assertEqual(done.stdout, "")
        for python in ("/opt/venv/bin/python3", "/usr/bin/python3"):
            done = self.run_once("-m", "pip", "--version", entrypoint=python)
            self.assertIn("No module named pip", done.stderr)

    def test_bytecode_is_there(self) -> None:
        """Nothing is compiled at every start: each module has its bytecode."""
        site = next((self.built.root / "opt/venv/lib").glob("python3.*/site-packages"))
        sources = list((site / "mcp_oauth2_proxy").rglob("*.py"))
        self.assertTrue(sources)
        for source in sources:
            self.assertTrue(list((source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")), source)
