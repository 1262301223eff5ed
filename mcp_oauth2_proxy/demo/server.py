"""A sample MCP server on the official SDK: what the demo's proxy stands in front of.

    python -m mcp_oauth2_proxy.demo.server [PORT]

It serves streamable HTTP on 127.0.0.1, by default on a free port, and prints its URL first.
"""

from __future__ import annotations

import socket
import sys

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer

#: What the demo's proxy adds to a request; a client cannot supply these itself.
IDENTITY_HEADERS = ("x-user", "x-email", "x-forwarded-by")
#: Seconds between two progress notifications of ``count``.
STEP = 0.1
_MOST_STEPS = 100


def build_server() -> MCPServer:
    """Return the server with its tools."""
    server = MCPServer("sample", instructions="A sample server: it knows who you are and can count.")

    @server.tool()
    async def whoami(ctx: Context) -> dict[str, str]:
        """Show what the proxy told this server about the caller."""
        headers = ctx.headers or {}
        known = {name: headers[name] for name in IDENTITY_HEADERS if name in headers}
        return {**known, "authorization": "present" if "authorization" in headers else "absent"}

    @server.tool()
    async def count(to: int, ctx: Context) -> str:
        """Count to a number, telling each step as progress."""
        steps = min(max(to, 0), _MOST_STEPS)
        for number in range(1, steps + 1):
            await ctx.report_progress(number, steps, f"at {number}")
            await anyio.sleep(STEP)
        return f"counted to {steps}"

    return server


def main(arguments: list[str]) -> int:
    """Serve until a signal ends it."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(arguments[0]) if arguments else 0))
    listener.listen()
    print(f"MCP server at http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    app = build_server().streamable_http_app()
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
