"""The sample MCP server as a real upstream: started once per test process, shared, and gone with it."""

from __future__ import annotations

import atexit
import sys

from tests.support.program import Program

_START_TIMEOUT = 60
_server: tuple[Program, str] | None = None


def sample_server() -> str:
    """Return the base URL of the running sample server; its MCP endpoint is ``/mcp``."""
    global _server  # noqa: PLW0603 (one for the whole process is the point)
    if _server is None:
        program = Program([sys.executable, "-m", "mcp_oauth2_proxy.demo.server"])
        atexit.register(program.kill)
        _server = program, program.wait_for(r"MCP server at (http://\S+)/mcp", _START_TIMEOUT)[1]
    return _server[1]
