"""What a person types, and what they read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy import service
from mcp_oauth2_proxy.cli import cli
from mcp_oauth2_proxy.config.schema import json_schema
from mcp_oauth2_proxy.version import DATE_VARIABLE, REVISION_VARIABLE
from tests.config.examples import ENVIRONMENT, MINIMAL
from tests.support.program import clean_environment

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL", "PANIC")


class CliCase(SynchronousTestCase):
    """Runs the command in this process, in a directory of its own, with a clean environment."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.config = self.directory / "config.yaml"
        self.config.write_text(MINIMAL, encoding="utf-8")

    def run_command(self, *arguments: str, **environment: str) -> Result:
        with mock.patch.dict(os.environ, clean_environment(**environment), clear=True):
            return CliRunner().invoke(cli, arguments)


class Help(CliCase):
    """What there is."""

    def test_commands(self) -> None:
        """The help names every subcommand, the global flags and how the environment is used."""
        shown = self.run_command("--help").output
        for word in (
            "serve",
            "check-config",
            "schema",
            "version",
            "demo",
            "completion",
            "--log-level",
            "MCP_OAUTH2",
        ):
            self.assertIn(word, shown)

    def test_serve(self) -> None:
        """``serve`` explains its flags and default."""
        shown = self.run_command("serve", "--help").output
        for word in ("--config", "config.yaml", "--log-level", "--log-format"):
            self.assertIn(word, shown)

    def test_completion(self) -> None:
        """Each shell gets a script that asks this very command."""
        for shell in ("bash", "zsh", "fish"):
            result = self.run_command("completion", shell)
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertIn("_MCP_OAUTH2_PROXY_COMPLETE", result.output)

    def test_demo_without_its_extra(self) -> None:
        """Where the demo's packages are missing, the line says what to install."""
        blocked = {name: None for name in sys.modules if name.startswith("mcp_oauth2_proxy.demo")} | {
            "mcp": None
        }
        with mock.patch.dict(sys.modules):
            for name in blocked:
                sys.modules.pop(name, None)
            sys.modules["mcp"] = None  # type: ignore[assignment]
            result = self.run_command("demo", "--once")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("pip install 'mcp-oauth2-proxy[demo]'", result.output)


class Serve(CliCase):
    """From the command line to the service."""

    def serve(self, *arguments: str, **environment: str) -> tuple[str, str]:
        with mock.patch.object(service, "run", return_value=0) as run:
            result = self.run_command(*arguments, **environment)
        self.assertEqual(result.exit_code, 0, result.output)
        log = run.call_args.args[0].log
        return log.level, log.format

    def test_log_flags(self) -> None:
        """Every level and format, before and after the subcommand; the nearer one wins."""
        path = str(self.config)
        for level in LEVELS:
            self.assertEqual(self.serve("serve", "--config", path, "--log-level", level)[0], level)
            self.assertEqual(self.serve("--log-level", level.lower(), "serve", "--config", path)[0], level)
        both = ("--log-format", "text", "serve", "--config", path, "--log-format", "json")
        self.assertEqual(self.serve(*both)[1], "json")

    def test_log_variables(self) -> None:
        """The flags are settings too, and a flag wins over its variable."""
        level = {"MCP_OAUTH2_PROXY_LOG_LEVEL": "ERROR", "MCP_OAUTH2_PROXY_LOG_FORMAT": "json"}
        path = str(self.config)
        self.assertEqual(self.serve("serve", "--config", path, **level), ("ERROR", "json"))
        self.assertEqual(
            self.serve("serve", "--config", path, "--log-level", "WARN", **level), ("WARN", "json")
        )

    def test_environment_alone(self) -> None:
        """Without a file the environment is enough."""
        self.assertEqual(self.serve("serve", **ENVIRONMENT), ("INFO", "text"))

    def test_exit_code(self) -> None:
        """What the service returns is what the command exits with."""
        with mock.patch.object(service, "run", return_value=2):
            self.assertEqual(self.run_command("serve", "--config", str(self.config)).exit_code, 2)


class WrongConfiguration(CliCase):
    """The real command, with a configuration that cannot be used."""

    def run_program(self, *arguments: str, python: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *python, "-m", "mcp_oauth2_proxy", *arguments],
            cwd=self.directory,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def test_serve(self) -> None:
        """``serve`` ends with 2 and one line a mistake on stderr; Twisted is not even loaded for that."""
        self.config.write_text(
            MINIMAL + "log: {level: loud}\nserver: {idleTimeout: soon}\n", encoding="utf-8"
        )
        done = self.run_program("serve")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 2, done.stderr)
        self.assertIn("server.idleTimeout 'soon' is not a duration", lines[0])
        self.assertIn("config.yaml:", lines[1])
        loaded = self.run_program("serve", python=["-X", "importtime"])
        self.assertNotIn("twisted", loaded.stderr)

    def test_a_missing_file(self) -> None:
        """A file that was asked for and is not there is named."""
        done = self.run_program("serve", "--config", "nowhere.yaml")
        self.assertEqual(done.returncode, 2)
        self.assertEqual(
            done.stderr, "configuration: nowhere.yaml is not there; expected a configuration file\n"
        )

    def test_check_config(self) -> None:
        """``check-config`` says the same and ends with 1."""
        self.config.write_text(MINIMAL + "log: {level: loud}\n", encoding="utf-8")
        done = self.run_program("check-config")
        self.assertEqual(done.returncode, 1)
        self.assertIn("log.level 'loud' is not accepted", done.stderr)


class CheckConfig(CliCase):
    """The effective configuration."""

    def test_values_and_sources(self) -> None:
        """Each field has its value and where it came from; secrets are masked."""
        result = self.run_command(
            "check-config",
            "--config",
            str(self.config),
            "--log-level",
            "DEBUG",
            MCP_OAUTH2_PROXY_LOG_FORMAT="json",
        )
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("auth.clientSecret = ***", result.output)
        self.assertNotIn("= secret", result.output)
        self.assertIn(f"upstream.url = http://localhost:3000   # {self.config}:3", result.output)
        self.assertIn("log.format = json   # environment MCP_OAUTH2_PROXY_LOG_FORMAT", result.output)
        self.assertIn("log.level = DEBUG   # --log-level", result.output)
        self.assertIn("server.readTimeout = 30s   # default", result.output)

    def test_warnings(self) -> None:
        """What is accepted but seldom meant is pointed at."""
        self.config.write_text(
            MINIMAL.replace("https://mcp", "http://mcp") + "  consent: never\n", encoding="utf-8"
        )
        shown = self.run_command("check-config", "--config", str(self.config)).output
        self.assertIn("warning: auth.baseUrl is http", shown)
        self.assertIn("warning: auth.consent is never", shown)


class Facts(CliCase):
    """``schema`` and ``version``."""

    def test_schema(self) -> None:
        """The schema is JSON on stdout."""
        self.assertEqual(json.loads(self.run_command("schema").output), json_schema())

    def test_version(self) -> None:
        """Version, build facts, Python and the libraries that matter."""
        shown = self.run_command(
            "version", **{REVISION_VARIABLE: "abc123", DATE_VARIABLE: "2026-01-01"}
        ).output
        for word in ("version:", "abc123", "2026-01-01", "python:", "twisted:", "openssl:", "httptools:"):
            self.assertIn(word, shown)
