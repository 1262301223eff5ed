"""The demo as a newcomer runs it: the command, its output, its end."""

from __future__ import annotations

import re
import signal
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.program import Program, clean_environment
from tests.support.proxy import get

#: Seconds: four on an idle machine.
_PATIENCE = 90


class Demo(SynchronousTestCase):
    """``mcp-oauth2-proxy demo`` in an empty directory."""

    def demo(self, *arguments: str, **environment: str) -> Program:
        """Start the demo."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        program = Program(
            [sys.executable, "-m", "mcp_oauth2_proxy", "demo", *arguments],
            environment=clean_environment(**environment),
            directory=Path(directory.name),
        )
        self.addCleanup(program.kill)
        return program

    def test_once_shows_every_step_and_ends(self) -> None:
        """``--once`` tells the whole story in order, each exchange in a line, and exits with 0."""
        program = self.demo("--once")
        self.assertEqual(program.wait(_PATIENCE), 0, program.output)
        story = (
            r"client +POST  /mcp  ->  401",
            r"client +GET   /\.well-known/oauth-protected-resource/mcp  ->  200",
            r"client +GET   /\.well-known/oauth-authorization-server  ->  200",
            r"client +POST  /oauth/register  ->  201",
            r"browser +GET   /oauth/authorize\?\S+  ->  200",
            r"browser +POST  /oauth/consent  ->  200",
            r"browser +GET   /realms/demo/protocol/openid-connect/auth\?\S+  ->  200",
            r"browser +POST  /realms/demo/login-actions/authenticate\S*  ->  302",
            r"proxy +POST  /realms/demo/protocol/openid-connect/token  ->  200",
            r"browser +GET   /oauth/callback\?\S+  ->  (200|30[23])",
            r"client +POST  /oauth/token  ->  200",
            r"client +POST  /mcp  ->  200",
            r"tools: whoami, count",
            r"x-user: alice",
            r"authorization: absent",
            r"progress: at 1 \(1/3\)",
            r"progress: at 3 \(3/3\)",
            r"answer: counted to 3",
            r"client +POST  /oauth/token  ->  200",
            r"stranger +POST  /mcp  ->  401",
            r"Everything worked\.",
        )
        rest = program.output
        for expected in story:
            found = re.search(expected, rest)
            self.assertIsNotNone(found, f"{expected!r} is not in what follows:\n{rest}")
            assert found is not None
            rest = rest[found.end() :]
        self.assertNotIn("\x1b[", program.output, "no colour into a pipe")
        self.assertNotIn("Traceback", program.output)

    def test_nothing_usable_is_printed(self) -> None:
        """No line holds a token or a whole code: nothing longer than a port and a path is random."""
        program = self.demo("--once")
        self.assertEqual(program.wait(_PATIENCE), 0, program.output)
        self.assertEqual(re.findall(r"[A-Za-z0-9_-]{32,}", program.output), [])

    def test_it_stays_until_it_is_interrupted(self) -> None:
        """Without ``--once`` it stays up with URL, user and password; Ctrl-C ends it with 0."""
        program = self.demo()
        found = program.wait_for(r"URL +(http://127\.0\.0\.1:\d+/mcp)", _PATIENCE)
        program.wait_for(r"user +alice\n +password +wonderland\n", _PATIENCE)
        program.wait_for(r"Ctrl-C", _PATIENCE)
        self.assertEqual(get(found[1])[0], 401)
        program.wait_for(r"The proxy's log:\n(.*\n)*.*/mcp", _PATIENCE)
        self.assertEqual(program.stop(signal.SIGINT, timeout=30), 0, program.output)
        self.assertNotIn("Traceback", program.output)
        with self.assertRaises(OSError):
            get(found[1])

    def test_a_stray_configuration_does_not_take_part(self) -> None:
        """Settings of a real proxy in the environment do not change the demo."""
        program = self.demo("--once", MCP_OAUTH2_PROXY_AUTH_ISSUERURL="https://real.example/realms/r")
        self.assertEqual(program.wait(_PATIENCE), 0, program.output)
