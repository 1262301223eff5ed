"""What only the embedded provider can show: time that a test moves, and life in memory."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

import jwt
from treq.testing import RequestTraversalAgent
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import FileBodyProducer, readBody
from twisted.web.http_headers import Headers

from mcp_oauth2_proxy.demo.idp import KeycloakDouble
from mcp_oauth2_proxy.demo.realm import Client, RealmDefinition, User

_FORM = Headers({"Content-Type": ["application/x-www-form-urlencoded"]})
_REALM = RealmDefinition(
    "r",
    clients=(Client("app", "secret", ("https://app/cb",), direct_grants=True),),
    users=(User("u", "pw", "u@example.com", "U", "Ser"),),
    extra_scopes=("mcp:read",),
)


class _Immediately:
    """A cooperator for FileBodyProducer that does all its work at once."""

    @staticmethod
    def cooperate(work: Any) -> Any:
        from twisted.internet.task import Cooperator  # noqa: PLC0415

        return Cooperator(
            scheduler=lambda step: step(), terminationPredicateFactory=lambda: lambda: False
        ).cooperate(work)


class InMemory(SynchronousTestCase):
    """The double behind ``treq.testing.RequestTraversalAgent``, with a clock of its own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.double = KeycloakDouble([_REALM], clock=self.clock, hostname="https://id.example/auth")
        self.agent = RequestTraversalAgent(self.double)
        self.issuer = "https://id.example/auth/realms/r"

    def ask(self, method: bytes, path: str, form: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Make a request in memory."""
        body = None
        if form is not None:
            body = FileBodyProducer(BytesIO(urlencode(form).encode()), cooperator=_Immediately)
        url = f"http://127.0.0.1/realms/r{path}".encode()
        response = self.successResultOf(self.agent.request(method, url, _FORM, body))
        return response.code, self.successResultOf(readBody(response))

    def token(self, **form: str) -> tuple[int, dict[str, Any]]:
        """Ask the token endpoint as the client."""
        form |= {"client_id": "app", "client_secret": "secret"}
        status, body = self.ask(b"POST", "/protocol/openid-connect/token", form)
        return status, json.loads(body)

    def log_in(self) -> dict[str, Any]:
        """Get tokens by password."""
        status, tokens = self.token(
            grant_type="password", username="u", password="pw", scope="openid mcp:read"
        )
        self.assertEqual(status, 200)
        return tokens

    def test_the_hostname_is_the_issuer(self) -> None:
        """With ``hostname`` set the issuer is the public URL, whatever Host the request named."""
        _, body = self.ask(b"GET", "/.well-known/openid-configuration")
        self.assertEqual(json.loads(body)["issuer"], self.issuer)
        claims = jwt.decode(self.log_in()["access_token"], options={"verify_signature": False})
        self.assertEqual(claims["iss"], self.issuer)

    def test_tokens_verify_with_the_published_key(self) -> None:
        """A client that reads the key set can verify the tokens, before and after a rotation."""
        for _ in range(2):
            token = self.log_in()["access_token"]
            _, body = self.ask(b"GET", "/protocol/openid-connect/certs")
            keys = {key["kid"]: key for key in json.loads(body)["keys"]}
            key = jwt.PyJWK(keys[jwt.get_unverified_header(token)["kid"]])
            claims = jwt.decode(
                token, key, algorithms=["RS256"], audience="account", options={"verify_exp": False}
            )
            self.assertEqual((claims["iat"], claims["exp"]), (1_000_000, 1_000_300))
            self.double.realms["r"].keys.rotate()

    def test_own_scopes_are_granted(self) -> None:
        """A scope that the realm defines shows in the token when it was asked for."""
        self.assertEqual(self.log_in()["scope"], "openid profile email mcp:read")

    def test_an_idle_session_ends(self) -> None:
        """After 30 minutes the refresh token is not active any more; a second before it was."""
        tokens = self.log_in()
        self.clock.advance(1799)
        status, tokens = self.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
        self.assertEqual(status, 200)
        self.clock.advance(1800)
        status, answer = self.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
        self.assertEqual((status, answer["error_description"]), (400, "Token is not active"))

    def code(self) -> str:
        """Log in by the form and return the code."""
        query = urlencode({"client_id": "app", "response_type": "code", "redirect_uri": "https://app/cb"})
        realm = self.double.realms["r"]
        parameters = {"client_id": "app", "response_type": "code", "redirect_uri": "https://app/cb"}
        self.assertEqual(self.ask(b"GET", f"/protocol/openid-connect/auth?{query}")[0], 200)
        page = realm.login.authorize(parameters, False, {}, issuer=self.issuer, now=self.clock.seconds())
        (browser, tab), attempt = list(realm.memory.attempts.items())[-1]
        answer = realm.login.submit(
            {"tab_id": tab, "session_code": attempt.code},
            {"username": "u", "password": "pw"},
            {"AUTH_SESSION_ID": browser},
            issuer=self.issuer,
            now=self.clock.seconds(),
        )
        self.assertNotIn("pw", repr(page) + repr(answer))
        return list(realm.memory.codes)[-1]

    def test_a_code_ages(self) -> None:
        """A code lives for a minute."""
        for age, status in ((59, 200), (60, 400)):
            code = self.code()
            self.clock.advance(age)
            answer = self.token(grant_type="authorization_code", code=code, redirect_uri="https://app/cb")
            self.assertEqual(answer[0], status)

    def test_noise_is_a_client_error(self) -> None:
        """Bytes that are no UTF-8, a wrong content type and a broken Basic header are 4xx, never 5xx."""
        url = b"http://127.0.0.1/realms/r/protocol/openid-connect/token"
        for kind, authorization in (
            ("application/x-www-form-urlencoded", "Basic ///"),
            ("application/json", "Basic"),
            ("text/plain", "Bearer x"),
        ):
            headers = Headers({"Content-Type": [kind], "Authorization": [authorization]})
            body = FileBodyProducer(BytesIO(b"grant_type=\xff&\x00=\xfe"), cooperator=_Immediately)
            response = self.successResultOf(self.agent.request(b"POST", url, headers, body))
            self.assertIn(response.code, (400, 401))

    def test_nothing_secret_in_a_repr(self) -> None:
        """Users, clients and keys do not show their secrets."""
        self.assertNotIn("secret", repr(_REALM))
        self.assertNotIn("'pw'", repr(_REALM))
