"""A web server that publishes client ID metadata documents, as the vendors of clients do."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tests.support.certificates import private_ca


class _Documents(Resource):
    isLeaf = True

    def __init__(self, host: DocumentHost) -> None:
        super().__init__()
        self._host = host

    def render_GET(self, request: Request) -> bytes:
        """Serve what is published at the path."""
        path = request.path.decode("ascii")
        self._host.asked.append(path)
        document = self._host.documents.get(path)
        request.setResponseCode(self._host.status if document is not None else 404)
        request.setHeader(b"Content-Type", b"application/json")
        return json.dumps(document).encode()


class DocumentHost:
    """Listens on 127.0.0.1 as ``https://localhost:PORT``, with a certificate of the tests' own authority."""

    def __init__(self, reactor: Any) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        #: The paths that were asked for.
        self.asked: list[str] = []
        #: What is answered for a document that is there; 403 is what a bot check says.
        self.status = 200
        ca, certificate = private_ca(host="localhost")
        self._directory = Path(tempfile.mkdtemp())
        (self._directory / "ca.pem").write_bytes(ca)
        site = Site(_Documents(self))
        self._port = reactor.listenSSL(0, site, certificate.options(), interface="127.0.0.1")
        self.port: int = self._port.getHost().port
        #: What ``auth.cimd`` of a proxy must say to fetch from here.
        self.settings: dict[str, Any] = {
            "allowedPorts": [self.port],
            "allowedNetworks": ["127.0.0.0/8", "::1/128"],
            "caFile": str(self._directory / "ca.pem"),
        }

    def publish(self, path: str, **members: Any) -> str:
        """Publish a document and return its URL, which is the client's ``client_id``."""
        url = f"https://localhost:{self.port}{path}"
        self.documents[path] = {"client_id": url, **members}
        return url

    def stop(self) -> Deferred[Any]:
        """Stop listening."""
        shutil.rmtree(self._directory, ignore_errors=True)
        return maybeDeferred(self._port.stopListening)
