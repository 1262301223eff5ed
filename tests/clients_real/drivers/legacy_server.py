"""The sample MCP server by legacy HTTP+SSE, mounted at a path: ``python legacy_server.py [/base]``."""

from __future__ import annotations

import socket
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from mcp_oauth2_proxy.demo.server import build_server

BASE = sys.argv[1] if len(sys.argv) > 1 else ""
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(f"serving at http://127.0.0.1:{listener.getsockname()[1]}{BASE}", flush=True)
app = build_server().sse_app()
if BASE:
    app = Starlette(routes=[Mount(BASE, app=app)])
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
