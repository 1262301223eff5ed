"""``mcp-oauth2-proxy demo``: the whole flow on this machine, with nothing to set up."""

from __future__ import annotations

import importlib.util
import sys


def run_demo(once: bool) -> int:
    """Run the demo and return the exit code: 0, or 1 with a readable line about what went wrong.

    It shows the walk-through, then stays up for the user's own MCP client until Ctrl-C; with ``once`` it ends
    after the walk-through.
    """
    if importlib.util.find_spec("mcp") is None:
        print(
            "The demo needs the MCP SDK, which is not installed: pip install 'mcp-oauth2-proxy[demo]'",
            file=sys.stderr,
        )
        return 1
    # After the check: these need the SDK, and the stage chooses the process's reactor.
    from mcp_oauth2_proxy.demo.stage import run_stage  # noqa: PLC0415

    return run_stage(once)
