"""What the demo says when something goes wrong, and how it treats its children."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import tempfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.demo.children import ChildFailedError, python_child
from mcp_oauth2_proxy.demo.command import run_demo
from mcp_oauth2_proxy.demo.stage import explain, proxy_settings


class Failures(SynchronousTestCase):
    """Every failure is one readable message."""

    def child(self, script: str, pattern: str, timeout: float) -> Any:
        """Run a child and wait for a line of it."""

        async def run() -> Any:
            with tempfile.TemporaryDirectory() as directory:
                async with python_child(
                    "The sample", ["-c", script], Path(directory), {"GIVEN": "1"}
                ) as child:
                    return (await child.line(pattern, timeout))[0]

        return asyncio.run(run())

    def test_a_child_that_ends(self) -> None:
        """A part that dies at its start is named, with its exit code and its last words."""
        script = "import sys; print('port taken'); sys.exit(3)"
        error = self.assertRaises(ChildFailedError, self.child, script, "ready", 20)
        self.assertEqual(str(error), "The sample ended with exit code 3; the last it said:\n  | port taken")

    def test_a_child_that_does_not_get_ready(self) -> None:
        """A part that hangs is given up, and stopped."""
        script = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
        error = self.assertRaises(ChildFailedError, self.child, script, "ready", 1)
        first, _, said = str(error).partition("\n")
        self.assertEqual(first, "The sample was not ready within 1 s; the last it said:")
        with self.assertRaises(ProcessLookupError):
            os.kill(int(said.removeprefix("  | ")), 0)

    def test_a_childs_environment(self) -> None:
        """Settings of a proxy that runs elsewhere do not reach the demo's; its own do."""
        self.patch(os, "environ", {**os.environ, "MCP_OAUTH2_PROXY_UPSTREAM_URL": "http://elsewhere"})
        script = "import os; print(os.environ.get('MCP_OAUTH2_PROXY_UPSTREAM_URL'), os.environ['GIVEN'])"
        self.assertEqual(self.child(script, ".*", 20), "None 1")

    def test_the_first_cause_is_told(self) -> None:
        """Of errors within errors the person reads the first that says something."""
        error = ExceptionGroup("tasks", [ExceptionGroup("more tasks", [ValueError("the real cause")])])
        self.assertEqual(explain(error), "the real cause (ValueError)")
        self.assertEqual(explain(ChildFailedError("The proxy ended")), "The proxy ended")
        self.assertEqual(explain(KeyError()), "no reason given (KeyError)")

    def test_without_the_sdk(self) -> None:
        """A plain installation has no MCP SDK: the demo says what to install."""
        self.patch(importlib.util, "find_spec", lambda _name: None)
        said = StringIO()
        with redirect_stderr(said):
            self.assertEqual(run_demo(True), 1)
        self.assertIn("pip install 'mcp-oauth2-proxy[demo]'", said.getvalue())

    def test_the_command_starts_fast(self) -> None:
        """Asking for help does not load the SDK: the demo's parts are imported when it runs."""
        script = "import sys, mcp_oauth2_proxy.demo.command; print('mcp' in sys.modules)"
        self.assertEqual(self.child(script, ".+", 20), "False")

    def test_the_settings_need_no_file(self) -> None:
        """The demo's proxy is configured by environment variables alone."""
        settings = proxy_settings(1234, upstream="http://u", issuer="http://i", secret="s")
        self.assertEqual(settings["MCP_OAUTH2_PROXY_SERVER_LISTENADDRESS"], "127.0.0.1:1234")
        self.assertTrue(all(name.startswith("MCP_OAUTH2_PROXY_") for name in settings))
