"""``twistd mcp-oauth2-proxy`` runs the same service as ``mcp-oauth2-proxy serve``."""

from __future__ import annotations

import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.service.scene import PATIENCE, SceneCase, exchange
from tests.support.program import Program, clean_environment, wait_until

TWISTD = str(Path(sys.executable).with_name("twistd"))


class Twistd(SceneCase, TestCase):
    """The plugin, in the foreground as a container runs it."""

    timeout = 90

    def twistd(self, *before: str, **sections: dict[str, Any]) -> Program:
        self.write(**sections)
        program = Program(
            [TWISTD, "-n", "--pidfile=", *before, "mcp-oauth2-proxy", "--config", "config.yaml"],
            environment=clean_environment(),
            directory=self.directory,
        )
        self.addCleanup(program.kill)
        return program

    def ready(self) -> bool:
        try:
            return (
                exchange(self.port, b"GET /readyz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")[0] == 200
            )
        except OSError:
            return False

    def relayed(self) -> tuple[int, Any]:
        lines = ("GET /mcp HTTP/1.1", "Host: h", f"Authorization: Bearer {self.scene.token()}", "", "")
        status, _, body = exchange(self.port, "\r\n".join(lines).encode())
        return status, json.loads(body)

    def test_the_same_service(self) -> None:
        """It becomes ready, relays, logs one JSON object a line, and drains on SIGTERM."""
        program = self.twistd()
        wait_until(self.ready, "twistd's proxy is ready", PATIENCE, program)
        status, document = self.relayed()
        self.assertEqual((status, document["path"]), (200, "/mcp"))
        # Once it has stopped in order, twistd passes the signal on to itself.
        self.assertEqual(program.stop(signal.SIGTERM), 128 + signal.SIGTERM)
        lines = [json.loads(line) for line in program.output.splitlines()]
        self.assertIn("/mcp", [line.get("path") for line in lines])
        self.assertEqual(lines[-1]["message"], "stopped")

    def test_another_reactor(self) -> None:
        """It runs on the reactor that twistd is told to use."""
        program = self.twistd("--reactor", "asyncio")
        wait_until(self.ready, "twistd's proxy is ready", PATIENCE, program)
        self.assertEqual(self.relayed()[0], 200)

    def test_workers(self) -> None:
        """With two workers it is a supervisor: they serve, log to the same place, and drain."""
        program = self.twistd(server={"workers": 2})
        wait_until(self.ready, "twistd's proxies are ready", PATIENCE, program)
        self.assertEqual(self.relayed()[0], 200)
        self.assertEqual(program.stop(signal.SIGTERM), 128 + signal.SIGTERM)
        lines = [json.loads(line) for line in program.output.splitlines()]
        self.assertIn(("/mcp", True), [(line.get("path"), "worker" in line) for line in lines])
        self.assertEqual(sorted(line["worker"] for line in lines if line["message"] == "stopped"), [1, 2])

    def test_workers_and_a_log_file(self) -> None:
        """``--logfile`` is where the workers' lines go as well, none over another."""
        program = self.twistd("--logfile", "proxy.log", server={"workers": 2})
        wait_until(self.ready, "twistd's proxies are ready", PATIENCE, program)
        self.assertEqual(self.relayed()[0], 200)
        program.stop(signal.SIGTERM)
        lines = [json.loads(line) for line in (self.directory / "proxy.log").read_text("utf-8").splitlines()]
        self.assertEqual(sorted(line["worker"] for line in lines if line["message"] == "stopped"), [1, 2])
        self.assertIn("all workers have ended", [line["message"] for line in lines])
        self.assertEqual(program.output, "")

    def test_a_taken_port(self) -> None:
        """One line, and exit code 2, with one process and with several."""
        with socket.create_server(("127.0.0.1", self.port)):
            for workers in (1, 2):
                program = self.twistd(server={"workers": workers})
                self.assertEqual(program.wait(PATIENCE), 2)
                self.assertEqual(program.output.count("cannot listen on"), 1)
                self.assertNotIn("Traceback", program.output)

    def test_a_log_file(self) -> None:
        """``--logfile`` is where the log goes."""
        program = self.twistd("--logfile", "proxy.log")
        wait_until(self.ready, "twistd's proxy is ready", PATIENCE, program)
        program.stop(signal.SIGTERM)
        self.assertIn('"listening on', (self.directory / "proxy.log").read_text(encoding="utf-8"))
        self.assertNotIn("listening on", program.output)

    def test_a_wrong_configuration(self) -> None:
        """Every mistake is named, without a traceback, and the exit code is not 0."""
        program = self.twistd(upstream={"url": "nowhere"}, log={"level": "LOUD"})
        self.assertNotEqual(program.wait(PATIENCE), 0)
        self.assertIn("upstream.url 'nowhere' is not an absolute", program.output)
        self.assertIn("log.level 'LOUD' is not accepted", program.output)
        self.assertNotIn("Traceback", program.output)

    def test_another_issuer(self) -> None:
        """A realm that calls itself otherwise ends the process with 2, naming both values."""
        wrong = self.scene.issuer.replace("127.0.0.1", "localhost")
        program = self.twistd(auth={"issuerUrl": wrong})
        self.assertEqual(program.wait(PATIENCE), 2)
        self.assertIn(wrong, program.output)
        self.assertIn(self.scene.issuer, program.output)
