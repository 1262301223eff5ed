"""The started program, asked by plain sockets: one for all tests of a module."""

from __future__ import annotations

import atexit
import json
from typing import Any
from urllib.parse import urlencode

from attrs import frozen
from twisted.trial.unittest import TestCase

from tests.facade.world import VERIFIER, challenge_of
from tests.service.scene import Scene, exchange
from tests.support.proxy import Proxy

_running: tuple[Scene, Proxy] | None = None
FORM = "application/x-www-form-urlencoded"


def running() -> tuple[Scene, Proxy]:
    """Return the shared program and what is around it; both are gone with the process."""
    global _running  # noqa: PLW0603 (one for the whole process is the point)
    if _running is None:
        scene = Scene()
        proxy = scene.start(auth={"scopesSupported": ["mcp:read"]})
        atexit.register(proxy.program.kill)
        _running = scene, proxy
    return _running


@frozen
class Reply:
    """An answer."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    def header(self, name: str) -> str:
        """Return a header that is there once, or an empty text."""
        values = self.headers.get(name, [])
        assert len(values) < 2, values
        return values[0] if values else ""


class SocketCase(TestCase):
    """Asks the shared program."""

    timeout = 60

    def setUp(self) -> None:
        self.scene, self.proxy = running()

    def ask(
        self, method: str, target: str, *lines: str, body: bytes = b"", proxy: Proxy | None = None
    ) -> Reply:
        """Send one request and return its answer."""
        length = (f"Content-Length: {len(body)}",) if body or method == "POST" else ()
        head = "\r\n".join(
            (f"{method} {target} HTTP/1.1", "Host: h", *lines, *length, "Connection: close", "", "")
        )
        status, received, content = exchange((proxy or self.proxy).port, head.encode("latin-1") + body)
        headers: dict[str, list[str]] = {}
        for line in received.decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(": ")
            headers.setdefault(name.lower(), []).append(value)
        return Reply(status, headers, content)

    def register(self, *, status: int = 201, **document: Any) -> dict[str, Any]:
        """Register a client."""
        document = {"redirect_uris": ["http://127.0.0.1/cb"], **document}
        body = json.dumps({name: value for name, value in document.items() if value is not ...}).encode()
        reply = self.ask("POST", "/oauth/register", "Content-Type: application/json", body=body)
        self.assertEqual(reply.status, status, reply.body)
        found: dict[str, Any] = reply.json
        return found

    def authorize(self, client: dict[str, Any], redirect_uri: str, **changes: str | None) -> Reply:
        """Ask for authorization as a browser does; ``None`` leaves a parameter out."""
        parameters = {
            "response_type": "code",
            "client_id": client["client_id"],
            "redirect_uri": redirect_uri,
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            "state": "the-state",
            **changes,
        }
        query = urlencode({name: value for name, value in parameters.items() if value is not None})
        return self.ask("GET", f"/oauth/authorize?{query}", "Accept: text/html")

    def token(self, form: dict[str, str], *lines: str) -> Reply:
        """Ask the token endpoint."""
        return self.ask(
            "POST", "/oauth/token", f"Content-Type: {FORM}", *lines, body=urlencode(form).encode()
        )

    def bearer(self, **claims: Any) -> str:
        """Return the header line of a token of the realm."""
        return f"Authorization: Bearer {self.scene.token(**claims)}"
