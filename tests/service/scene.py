"""A started proxy between plain sockets: a static realm, and an upstream that can be held back."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from tests.support.keys import access_claims, jwks, make_token, rsa_key
from tests.support.program import free_port
from tests.support.proxy import Proxy

#: Seconds that any single wait may take before the test fails.
PATIENCE = 20


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scene: Scene

    def do_GET(self) -> None:
        if self.path.startswith("/realms/"):
            self._realm()
        elif self.path.startswith("/slow"):
            self.scene.held.append(self.path)
            self.scene.entered.set()
            self.scene.release.wait(PATIENCE)
            self._json({"slow": True})
        elif self.path.startswith("/status/"):
            _, _, status, code = self.path.split("/")
            self._json({"jsonrpc": "2.0", "id": 1, "error": {"code": int(code)}}, int(status))
        elif self.path.startswith("/events"):
            self._events()
        else:
            self._json({"path": self.path, "headers": [list(pair) for pair in self.headers.items()]})

    def do_POST(self) -> None:
        self._read_body()
        self.do_GET()

    def _read_body(self) -> None:
        if self.headers.get("Transfer-Encoding") != "chunked":
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            return
        while size := int(self.rfile.readline(), 16):
            self.rfile.read(size + 2)
        self.rfile.readline()

    def _realm(self) -> None:
        issuer = self.scene.issuer
        self.scene.realm_asked.set()
        self.scene.realm_release.wait(PATIENCE)
        if self.scene.is_down:
            self._json({"error": "down"}, 503)
        elif self.path.endswith("/certs"):
            self.scene.key_fetches += 1
            encryption = rsa_key("enc").jwk(use="enc", alg="RSA-OAEP")
            self._json({"keys": [encryption, *jwks(*self.scene.keys)["keys"]]})
        else:
            self._json(
                {
                    "issuer": issuer,
                    "authorization_endpoint": f"{issuer}/auth",
                    "token_endpoint": f"{issuer}/token",
                    "jwks_uri": f"{issuer}/certs",
                }
            )

    def _events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        event = b"data: one\n\n"
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        self.wfile.flush()
        self.scene.entered.set()
        self.scene.release.wait(PATIENCE)

    def _json(self, document: Any, status: int = 200) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # With the usual five, of a hundred connections at once some are dropped, and tried again a second later.
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A proxy that cuts its upstream is what some tests are about."""


class Scene:
    """The realm, the upstream and what a test needs to start the program between them."""

    def __init__(self) -> None:
        #: Set when a held request has reached the upstream; set ``release`` to let it go on.
        self.entered, self.release = threading.Event(), threading.Event()
        #: The paths of the slow requests that have come.
        self.held: list[str] = []
        #: The realm's signing keys, how often they were fetched, and whether the realm is away.
        self.keys = [rsa_key()]
        self.key_fetches = 0
        self.is_down = False
        #: Set when the realm was asked; it answers once ``realm_release`` is set, which it is.
        self.realm_asked, self.realm_release = threading.Event(), threading.Event()
        self.realm_release.set()
        handler = type("Handler", (_Handler,), {"scene": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.upstream = f"http://127.0.0.1:{self._server.server_port}"
        self.issuer = f"{self.upstream}/realms/static"

    def configuration(self, **sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return a configuration for this scene; ``sections`` are laid over it."""
        base: dict[str, dict[str, Any]] = {
            "upstream": {"url": self.upstream},
            "auth": {"issuerUrl": self.issuer, "clientId": "mcp-proxy", "clientSecret": "a secret"},
            "log": {"format": "json"},
        }
        return {name: {**base.get(name, {}), **sections.get(name, {})} for name in {*base, *sections}}

    def start(self, *, wait: bool = True, **sections: dict[str, Any]) -> Proxy:
        """Start the program."""
        proxy = Proxy(self.configuration(**sections), port=free_port())
        if wait:
            proxy.wait_until_ready()
        return proxy

    def token(self, **claims: Any) -> str:
        """Return an access token of the static realm, good for an hour."""
        now = int(time.time())
        return make_token(
            access_claims(
                **{
                    **{
                        "iss": self.issuer,
                        "azp": "mcp-proxy",
                        "iat": now,
                        "exp": now + 3600,
                        "auth_time": now,
                    },
                    **claims,
                }
            )
        )

    def stop(self) -> None:
        """Let go of everything that is held, and stop serving."""
        self.release.set()
        self.realm_release.set()
        self._server.shutdown()
        self._server.server_close()


class SceneCase(SynchronousTestCase):
    """Starts the program in a way of its own: has a scene, a directory to run it in, and a port for it."""

    def setUp(self) -> None:
        self.scene = Scene()
        self.addCleanup(self.scene.stop)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.port = free_port()

    def write(self, **sections: dict[str, Any]) -> Path:
        """Write the scene's ``config.yaml`` into the directory, ``sections`` laid over it, and return it."""
        address = f"127.0.0.1:{self.port}"
        server = {"listenAddress": address, **sections.pop("server", {})}
        auth = {"baseUrl": f"http://{address}", **sections.pop("auth", {})}
        path = self.directory / "config.yaml"
        configuration = self.scene.configuration(server=server, auth=auth, **sections)
        path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
        return path


def connect(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Return a connection whose every wait ends."""
    return socket.create_connection((host, port), timeout=PATIENCE)


def exchange(port: int, request: bytes, host: str = "127.0.0.1") -> tuple[int, bytes, bytes]:
    """Send bytes and return status, head and body of the answer."""
    with connect(port, host) as client:
        client.sendall(request)
        return read_answer(client)


def read_answer(client: socket.socket) -> tuple[int, bytes, bytes]:
    """Return status, head and body of one answer: by its Content-Length, or until the connection ends."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = client.recv(65536)
        if not piece:
            raise AssertionError(f"the connection ended without an answer: {received!r}")
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    if status in (204, 304):
        return status, head, body
    lengths = [
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    while (not lengths or len(body) < lengths[0]) and (piece := client.recv(65536)):
        body += piece
    return status, head, body
