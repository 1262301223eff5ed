"""What every kind of answer carries: who may read, keep and frame it, and what it tells about the server."""

from __future__ import annotations

from urllib.parse import urlencode

from twisted.trial.unittest import TestCase

from tests.service.scene import Scene, exchange
from tests.support.proxy import Proxy

ORIGIN = "https://inspector.example"
REGISTER = b'{"redirect_uris": ["http://127.0.0.1/cb"]}'


class Answers(TestCase):
    """One started program, asked for everything it answers."""

    timeout = 120

    def setUp(self) -> None:
        self.scene = Scene()
        self.addCleanup(self.scene.stop)

    def start(self, **sections: dict[str, object]) -> Proxy:
        proxy = self.scene.start(**sections)
        self.addCleanup(proxy.stop)
        return proxy

    def ask(
        self, proxy: Proxy, method: str, target: str, *lines: str, body: bytes = b""
    ) -> tuple[int, dict[str, list[str]]]:
        length = (f"Content-Length: {len(body)}",) if body else ()
        request = "\r\n".join((f"{method} {target} HTTP/1.1", "Host: h", *lines, *length, "", ""))
        status, head, _ = exchange(proxy.port, request.encode() + body)
        headers: dict[str, list[str]] = {}
        for line in head.decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(": ")
            headers.setdefault(name.lower(), []).append(value)
        return status, headers

    def test_preflight(self) -> None:
        """``OPTIONS`` needs no token, wherever a page's script has to go, and never reaches the upstream."""
        proxy = self.start()
        for path in (
            *("/mcp", "/", "/oauth/token", "/oauth/register"),
            *("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"),
            *("/.well-known/openid-configuration", "/.well-known/unknown", "/oauth/unknown"),
        ):
            status, headers = self.ask(
                proxy,
                *("OPTIONS", path, f"Origin: {ORIGIN}", "Access-Control-Request-Method: POST"),
                "Access-Control-Request-Headers: authorization, mcp-param-city",
            )
            self.assertEqual(status, 204, path)
            self.assertEqual(headers["access-control-allow-origin"], ["*"], path)
            self.assertEqual(headers["access-control-allow-methods"], ["GET, POST, DELETE"])
            allowed = headers["access-control-allow-headers"][0].lower().split(", ")
            for name in ("authorization", "mcp-session-id", "last-event-id", "mcp-param-city"):
                self.assertIn(name, allowed)
            self.assertNotIn("access-control-allow-credentials", headers)
            self.assertNotIn("content-length", headers)

    def test_answers_to_scripts(self) -> None:
        """Every answer can be read by the page that asked, refusals above all; pages for people cannot."""
        proxy = self.start()
        token = f"Authorization: Bearer {self.scene.token()}"
        form = "Content-Type: application/x-www-form-urlencoded"
        for method, path, lines, body, expected in (
            ("GET", "/mcp", [], b"", 401),
            ("GET", "/mcp", [token], b"", 200),
            ("POST", "/mcp", [token], b"{}", 200),
            ("GET", "/.well-known/oauth-protected-resource", [], b"", 200),
            ("GET", "/.well-known/nothing", [], b"", 404),
            ("POST", "/oauth/register", ["Content-Type: application/json"], REGISTER, 201),
            ("POST", "/oauth/register", [], b"x", 400),
            ("POST", "/oauth/token", [form], b"grant_type=x", 401),
            ("GET", "/oauth/token", [], b"", 405),
        ):
            status, headers = self.ask(proxy, method, path, f"Origin: {ORIGIN}", *lines, body=body)
            self.assertEqual(status, expected, path)
            self.assertEqual(headers["access-control-allow-origin"], ["*"], path)
            exposed = headers["access-control-expose-headers"][0].lower()
            for name in ("www-authenticate", "mcp-session-id", "mcp-protocol-version"):
                self.assertIn(name, exposed)
        for method, path in (
            ("GET", "/oauth/authorize"),
            ("POST", "/oauth/consent"),
            ("GET", "/oauth/callback"),
        ):
            for asked in (method, "OPTIONS"):
                _, headers = self.ask(proxy, asked, path, f"Origin: {ORIGIN}")
                self.assertNotIn("access-control-allow-origin", headers, path)

    def test_listed_origins(self) -> None:
        """Only those that the operator lists."""
        proxy = self.start(server={"corsOrigins": [ORIGIN]})
        for origin, allowed in ((ORIGIN, [ORIGIN]), ("https://evil.example", None)):
            for method, path in (("OPTIONS", "/mcp"), ("GET", "/mcp"), ("OPTIONS", "/oauth/token")):
                _, headers = self.ask(proxy, method, path, f"Origin: {origin}")
                self.assertEqual(headers.get("access-control-allow-origin"), allowed, (origin, path))
                self.assertIn("Origin", headers["vary"])

    def test_turned_off(self) -> None:
        """Then ``OPTIONS`` is a request like any other."""
        proxy = self.start(server={"corsOrigins": []})
        self.assertEqual(self.ask(proxy, "OPTIONS", "/mcp", f"Origin: {ORIGIN}")[0], 401)
        self.assertEqual(self.ask(proxy, "OPTIONS", "/oauth/token", f"Origin: {ORIGIN}")[0], 405)
        _, headers = self.ask(proxy, "GET", "/mcp", f"Origin: {ORIGIN}")
        self.assertNotIn("access-control-allow-origin", headers)

    def test_security_headers(self) -> None:
        """Each kind of answer has what belongs to it, and none has a version banner."""
        proxy = self.start()
        client = self.register(proxy)
        page = f"/oauth/authorize?{urlencode(client)}"
        html = "Accept: text/html"
        no_store = ("cache-control", "no-store")
        no_sniff = ("x-content-type-options", "nosniff")
        private = ("referrer-policy", "no-referrer")
        unframed = ("x-frame-options", "DENY")
        table = (
            ("GET", "/healthz", [], 200, [no_store, no_sniff]),
            ("GET", "/readyz", [], 200, [no_store, no_sniff]),
            ("GET", "/mcp", [], 401, [no_store, no_sniff]),
            ("GET", "/.well-known/oauth-authorization-server", [], 200, [no_sniff]),
            ("GET", "/.well-known/oauth-protected-resource", [], 200, [no_sniff]),
            ("GET", "/.well-known/nothing", [], 404, [no_store, no_sniff]),
            ("GET", "/oauth/token", [], 405, [no_store, no_sniff]),
            ("POST", "/oauth/token", [], 400, [no_store, no_sniff]),
            ("POST", "/oauth/register", [], 400, [no_store, no_sniff]),
            ("GET", page, [html], 200, [no_store, no_sniff, private, unframed]),
            ("GET", f"{page}&response_type=x", [html], 302, [no_store, private]),
            ("GET", "/oauth/authorize", [html], 400, [no_store, no_sniff, private, unframed]),
            ("GET", "/oauth/callback", [html], 400, [no_store, no_sniff, private, unframed]),
            ("POST", "/oauth/consent", [html], 400, [no_store, no_sniff, private, unframed]),
        )
        for method, path, lines, expected, carried in table:
            status, headers = self.ask(proxy, method, path, *lines)
            self.assertEqual(status, expected, path)
            for name, value in carried:
                self.assertEqual(headers.get(name), [value], (path, name))
            for banner in ("server", "x-powered-by", "via"):
                self.assertNotIn(banner, headers, path)
            if unframed in carried:
                self.assertIn("frame-ancestors 'none'", headers["content-security-policy"][0])
                self.assertIn("default-src 'none'", headers["content-security-policy"][0])

    def register(self, proxy: Proxy) -> dict[str, str]:
        """Return a good authorization request's parameters for a new client."""
        request = (
            b"POST /oauth/register HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(REGISTER)
        )
        _, _, body = exchange(proxy.port, request + REGISTER)
        return {
            "client_id": body.decode().partition('"client_id":"')[2].partition('"')[0],
            "redirect_uri": "http://127.0.0.1:7777/cb",
            "response_type": "code",
            "code_challenge": "x" * 43,
            "code_challenge_method": "S256",
        }
