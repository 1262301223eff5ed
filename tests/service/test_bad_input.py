"""Whatever arrives from outside has an answer: a 4xx that says what is wrong."""

from __future__ import annotations

import atexit
import json
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from tests.service.scene import Scene, connect, read_answer
from tests.support.keys import access_claims, ec_key, id_claims, make_token
from tests.support.proxy import Proxy

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MEBIBYTE = 1024 * 1024
REGISTRATION = {"redirect_uris": ["http://127.0.0.1/cb"], "client_name": "x"}


def request(method: str, target: str, *lines: str, body: bytes = b"") -> bytes:
    """Return a request's bytes, with a length where there is a body."""
    length = (f"Content-Length: {len(body)}",) if body else ()
    return (
        "\r\n".join((f"{method} {target} HTTP/1.1", "Host: h", *lines, *length, "", "")).encode("latin-1")
        + body
    )


_running: tuple[Scene, Proxy] | None = None


def running() -> tuple[Scene, Proxy]:
    """Return the one program of this module, started when it is first asked for and gone with the process."""
    global _running  # noqa: PLW0603 (one for the whole module is the point)
    if _running is None:
        scene = Scene()
        proxy = scene.start()
        atexit.register(proxy.program.kill)
        _running = scene, proxy
    return _running


class BadInput(TestCase):
    """One started program for all that is thrown at it."""

    timeout = 120

    def setUp(self) -> None:
        self.scene, self.proxy = running()
        self.port = self.proxy.port

    def tearDown(self) -> None:
        """After each attack the process is alive, serves, and has shown nobody a traceback."""
        self.assertEqual(self.proxy.health(), (200, "ok"))
        self.assertEqual(self.proxy.readiness(), (200, "ok"))
        self.assertNotIn("Traceback", self.proxy.output)

    def ask(self, data: bytes) -> tuple[int, dict[str, str], Any]:
        """Send bytes; return status, header lines and the JSON of the answer, if it is JSON."""
        with connect(self.port) as client:
            client.sendall(data)
            status, head, body = read_answer(client)
        lines = (line.decode("latin-1").partition(": ") for line in head.split(b"\r\n")[1:])
        headers = {name.lower(): value for name, _, value in lines}
        document = json.loads(body) if headers.get("content-type", "").startswith(JSON) and body else body
        self.assertLess(status, 500, (data[:200], body))
        self.assertNotIn(b"Traceback", body)
        return status, headers, document

    def refused(self, data: bytes, *statuses: int, error: str | None = None) -> dict[str, Any]:
        """Send bytes that must be refused with one of these statuses, as OAuth's JSON."""
        status, headers, document = self.ask(data)
        self.assertIn(status, statuses, (data[:200], document))
        self.assertIsInstance(document, dict, data[:200])
        self.assertTrue(document["error"])
        self.assertTrue(document["error_description"])
        self.assertIn("no-store", headers["cache-control"])
        if error is not None:
            self.assertEqual(document["error"], error, data[:200])
        found: dict[str, Any] = document
        return found

    def test_registration(self) -> None:
        """Bodies that are no client metadata."""
        good = json.dumps(REGISTRATION)
        for body in (
            b"",
            b"{",
            b"[]",
            b"null",
            b'"text"',
            b"\xff\xfe",
            b'{"redirect_uris": []}',
            b'{"redirect_uris": "http://127.0.0.1/cb"}',
            b'{"redirect_uris": [1]}',
            b'{"redirect_uris": [null]}',
            b'{"redirect_uris": {}}',
            b'{"client_name": "no uris"}',
            b'{"redirect_uris": ["http://127.0.0.1/cb"], "redirect_uris": ["http://127.0.0.1/other"]}',
            b'{"redirect_uris": ["javascript:alert(1)"]}',
            b'{"redirect_uris": ["http://evil.example/cb"]}',
            b'{"redirect_uris": ["https://h/cb#fragment"]}',
            b'{"redirect_uris": ["https://u:p@h/cb"]}',
            b'{"redirect_uris": ["https://*.h/cb"]}',
            b"[" * 100_000,
            json.dumps({"redirect_uris": [f"https://h/{number}" for number in range(1000)]}).encode(),
            json.dumps({"redirect_uris": ["https://h/" + "a" * 100_000]}).encode(),
        ):
            self.refused(request("POST", "/oauth/register", f"Content-Type: {JSON}", body=body), 400)
        for kind in ("text/plain", FORM, "multipart/form-data; boundary=x", "", "\xff"):
            data = request("POST", "/oauth/register", f"Content-Type: {kind}", body=good.encode())
            self.refused(data, 400, 415)

    def test_token_requests(self) -> None:
        """Forms that are no token request."""
        code = {"grant_type": "authorization_code", "code": "c", "client_id": "x", "code_verifier": "v" * 43}
        for body in (
            b"",
            b"grant_type=",
            b"grant_type=password&client_id=x",
            b"grant_type=authorization_code&grant_type=authorization_code&client_id=x",
            b"%",
            b"%zz=1",
            b"\xff\xfe",
            b"a=%00",
            b"&" * 10_000,
            urlencode(code).encode(),
            urlencode({**code, "client_id": "gAAAA" + "x" * 50_000}).encode(),
            urlencode({"grant_type": "refresh_token", "refresh_token": "\0", "client_id": "x"}).encode(),
        ):
            self.refused(request("POST", "/oauth/token", f"Content-Type: {FORM}", body=body), 400, 401)
        self.refused(request("POST", "/oauth/token", f"Content-Type: {JSON}", body=b"{}"), 400, 401, 415)
        for credentials in ("Basic", "Basic !!!", "Basic " + "A" * 5000, "Bearer x", "Basic /////w=="):
            lines = (f"Content-Type: {FORM}", f"Authorization: {credentials}")
            self.refused(request("POST", "/oauth/token", *lines, body=b"grant_type=refresh_token"), 400, 401)

    def test_authorization_requests(self) -> None:
        """Queries that are no authorization request: never a redirect to anywhere."""
        for query in (
            "",
            "client_id=x",
            "client_id=x&client_id=y",
            "response_type=token&client_id=x&redirect_uri=https://evil.example/",
            "client_id=%ff&redirect_uri=https://evil.example/",
            "client_id=%00",
            "client_id=" + "x" * 20_000,
            "&".join(f"a{number}=1" for number in range(1000)),
            "state=" + quote("\r\nLocation: https://evil.example/"),
        ):
            data = request("GET", f"/oauth/authorize?{query}")
            self.refused(data, 400)
            status, headers, page = self.ask(request("GET", f"/oauth/authorize?{query}", "Accept: text/html"))
            self.assertEqual(status, 400)
            self.assertTrue(headers["content-type"].startswith("text/html"))
            self.assertNotIn("location", headers)
            self.assertIn(b"<html", page)

    def test_answers_that_nobody_asked_for(self) -> None:
        """The callback and the consent endpoint without a login under way."""
        for query in (
            "",
            "state=x",
            "state=x&code=y",
            "state=x&state=y",
            "code=%ff",
            "error=access_denied&state=x",
        ):
            self.refused(request("GET", f"/oauth/callback?{query}"), 400)
        for body in (b"", b"decision=allow", b"request=x&decision=allow", b"\xff"):
            self.refused(request("POST", "/oauth/consent", f"Content-Type: {FORM}", body=body), 400, 403)

    def test_too_large(self) -> None:
        """More than 1 MiB on an OAuth endpoint is 413, whether its length is said or not."""
        for path, kind in (("register", JSON), ("token", FORM), ("consent", FORM)):
            head = ("POST", f"/oauth/{path}", f"Content-Type: {kind}")
            self.refused(request(*head, body=b"a" * (MEBIBYTE + 1)), 413)
            chunk = b"%x\r\n%b\r\n" % (MEBIBYTE + 1, b"a" * (MEBIBYTE + 1))
            self.refused(request(*head, "Transfer-Encoding: chunked") + chunk, 413)

    def test_methods_and_paths(self) -> None:
        """A wrong method is 405 and names the right ones; unknown paths of ours are a JSON 404."""
        for path, allowed in (
            ("/oauth/register", "POST"),
            ("/oauth/token", "POST"),
            ("/oauth/consent", "POST"),
            ("/oauth/authorize", "GET"),
            ("/oauth/callback", "GET"),
            ("/.well-known/oauth-authorization-server", "GET"),
            ("/healthz", "GET"),
        ):
            for method in ("PUT", "DELETE", "PATCH", "POST" if allowed == "GET" else "GET"):
                status, headers, _ = self.ask(request(method, path))
                self.assertEqual(status, 405, (method, path))
                self.assertIn(allowed, headers["allow"])
        for path in (
            "/oauth",
            "/oauth/",
            "/oauth/nothing",
            "/oauth/token/more",
            "/.well-known/",
            "/.well-known/x/y",
        ):
            self.refused(request("GET", path), 404)

    def test_not_http(self) -> None:
        """What is no HTTP/1.1 is told so, and the connection is closed."""
        big = "X: " + "a" * 70_000
        for status, data in (
            (400, b"hello\r\n\r\n"),
            (400, b"GET /\r\n\r\n"),
            (400, b"get / http/1.1\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\n\r\n"),
            (400, request("GET", "/mcp", "Host: again")),
            (400, request("GET", "/mcp", "X: a\0b")),
            (400, request("GET", "http://elsewhere/mcp")),
            (400, request("GET", "/mcp", "Authorization: a", "Authorization: b")),
            (400, request("POST", "/mcp", "Content-Length: 1", "Transfer-Encoding: chunked")),
            (400, request("POST", "/mcp", "Content-Length: 1", "Content-Length: 2")),
            (400, request("POST", "/mcp", "Content-Length: -1")),
            (414, request("GET", "/" + "a" * 40_000)),
            (417, request("POST", "/mcp", "Expect: miracles", body=b"x")),
            (431, request("GET", "/mcp", big)),
            (431, request("GET", "/mcp", *["X: y"] * 201)),
        ):
            self.refused(data, status)
        for status, data in (
            (400, b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n"),
            (400, b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n"),
            (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ):
            with connect(self.port) as client:
                client.sendall(data)
                self.assertEqual(read_answer(client)[0], status)

    def test_tokens(self) -> None:
        """Tokens that are none, or not for here: 401 with the way to a better one."""
        claims = access_claims(iss=self.scene.issuer)
        none = make_token(claims, headers={"alg": "none"})
        for token in (
            "x",
            "a.b.c",
            "..",
            "=" * 100,
            "a" * 20_000,
            none,
            none.rpartition(".")[0] + ".",
            make_token(claims, headers={"alg": "HS256"}),
            make_token(claims),
            make_token(claims, ec_key("forged")),
            make_token(claims, headers={"kid": "../../etc/passwd"}),
            make_token(id_claims(nonce="n", iss=self.scene.issuer)),
        ):
            status, headers, document = self.ask(request("GET", "/mcp", f"Authorization: Bearer {token}"))
            self.assertEqual((status, document["error"]), (401, "invalid_token"), token[:40])
            self.assertIn("/.well-known/oauth-protected-resource/mcp", headers["www-authenticate"])
        for lines in ((), ("Authorization: Basic eDp5",)):
            status, headers, _ = self.ask(request("GET", f"/mcp?access_token={self.scene.token()}", *lines))
            self.assertEqual(status, 401)
            self.assertNotIn("error=", headers["www-authenticate"])

    def test_ways_around_the_gate(self) -> None:
        """No spelling of a path reaches the MCP server without a token."""
        for path in (
            "/oauth/../mcp",
            "/oauth/%2e%2e/mcp",
            "//mcp",
            "/./mcp",
            "/healthz/../mcp",
            "/healthz/mcp",
            "/.well-known/../mcp",
            "/.well-known/oauth-protected-resource/../../mcp",
            "/mcp/.well-known/oauth-protected-resource",
            "/oauth%2ftoken",
            "/OAUTH/token",
            "/mcp;x=/healthz",
            "/%6dcp",
            "http://h/mcp",
        ):
            _, _, document = self.ask(request("GET", path))
            shown = json.dumps(document) if isinstance(document, dict) else document.decode()
            self.assertNotIn('"headers"', shown, f"{path}: the upstream has answered")

    def test_identity_cannot_be_smuggled(self) -> None:
        """What the wire writes by itself, a client cannot write for it."""
        lines = (
            f"Authorization: Bearer {self.scene.token()}",
            "Connection: authorization, x-kept",
            "X-Kept: nominated",
            "X-Forwarded-For: 6.6.6.6",
            "Forwarded: for=6.6.6.6",
            "Transfer-Encoding: chunked",
        )
        status, _, document = self.ask(request("POST", "/mcp", *lines) + b"0\r\n\r\n")
        self.assertEqual(status, 200)
        names = {name.lower() for name, _ in document["headers"]}
        self.assertFalse(names & {"x-kept", "x-forwarded-for", "forwarded"}, names)
        self.assertLessEqual(len(names & {"content-length", "transfer-encoding"}), 1)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.sampled_from(
            ["/oauth/register", "/oauth/token", "/oauth/consent", "/oauth/authorize", "/oauth/callback"]
        ),
        st.sampled_from([JSON, FORM]),
        st.binary(max_size=300)
        | st.dictionaries(
            st.sampled_from(["grant_type", "code", "client_id", "state", "request", "redirect_uri", "x"]),
            st.text(max_size=20),
            max_size=5,
        ).map(lambda fields: urlencode(fields, errors="ignore").encode())
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=10),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["redirect_uris", "client_name", "scope", "x"]), inner, max_size=4
                )
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    )
    def test_anything(self, path: str, kind: str, content: bytes) -> None:
        """Generated bodies and queries at every endpoint: an answer below 500, every time."""
        if path in ("/oauth/authorize", "/oauth/callback"):
            self.ask(request("GET", f"{path}?{quote(content, safe='=&%+')}"))
        else:
            self.ask(request("POST", path, f"Content-Type: {kind}", body=content))
