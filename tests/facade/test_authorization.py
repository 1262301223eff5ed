"""The authorization request and the grants: what is accepted, and where a refusal goes."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.model import Auth, Secret
from mcp_oauth2_proxy.facade.authorization import (
    MAX_STATE,
    AuthorizationRequest,
    read_authorization,
)
from mcp_oauth2_proxy.facade.clients import NONE, Client
from mcp_oauth2_proxy.facade.errors import OAuthError, RedirectedError, SealError
from mcp_oauth2_proxy.facade.grants import (
    CodeGrant,
    RefreshGrant,
    Tokens,
    challenge_of,
    token_response,
)
from mcp_oauth2_proxy.facade.parameters import Parameters, parse_query
from mcp_oauth2_proxy.facade.sealing import Sealer
from mcp_oauth2_proxy.keycloak.interfaces import TokenResponse

BASE = "https://mcp.example.com"
VERIFIER = "v" * 43
CLIENT = Client("id-1", ("https://c.example/cb",), NONE, ("authorization_code", "refresh_token"))
GOOD = {
    "response_type": "code",
    "client_id": "id-1",
    "redirect_uri": "https://c.example/cb",
    "code_challenge": challenge_of(VERIFIER),
    "code_challenge_method": "S256",
    "state": "s",
}


def read(
    *more: tuple[str, str],
    client: Client = CLIENT,
    without: str = "",
    supported: frozenset[str] | None = None,
) -> AuthorizationRequest:
    """Read the good request, changed: ``more`` replaces what it names, and adds."""
    replaced = {name for name, _ in more} | {without}
    pairs = [pair for pair in GOOD.items() if pair[0] not in replaced] + list(more)
    return read_authorization(
        parse_query(urlencode(pairs).encode()),
        client,
        base_url=BASE,
        supported=supported,
        permitted=lambda _: True,
    )


class Requests(SynchronousTestCase):
    """RFC 6749 section 4.1.1 with PKCE and resource indicators."""

    def redirected(self, *more: tuple[str, str], without: str = "") -> RedirectedError:
        error = self.assertRaises(RedirectedError, read, *more, without=without)
        self.assertEqual(error.redirect_uri, "https://c.example/cb")
        return error

    def test_the_good_request(self) -> None:
        """Everything that matters is carried along; a reload of the record gives the same request."""
        request = read(("scope", " a  b a"), ("login_hint", "anna"), ("prompt", "select_account"), ("x", "y"))
        self.assertEqual((request.scopes, request.state), (("a", "b"), "s"))
        self.assertEqual(request.hints, {"login_hint": "anna"})
        self.assertEqual(
            AuthorizationRequest.from_record(json.loads(json.dumps(request.to_record()))), request
        )

    def test_before_the_redirect_uri_is_proven_nothing_is_redirected(self) -> None:
        """A foreign, repeated or disguised redirect_uri ends in an error here, not at a stranger's host."""
        for more in (
            [("redirect_uri", "https://evil.example/cb")],
            [("redirect_uri", "https://c.example/cb"), ("redirect_uri", "https://evil.example/cb")],
            [("redirect_uri", "javascript:alert(1)")],
            [("client_id", "id-1"), ("client_id", "id-2")],
        ):
            error = self.assertRaises(OAuthError, read, *more)
            self.assertNotIsInstance(error, RedirectedError)
            self.assertEqual((error.code, error.status), ("invalid_request", 400))

    def test_pkce_is_required(self) -> None:
        """No challenge, ``plain``, no method, or a challenge that is no hash: invalid_request by redirect."""
        for error in (
            self.redirected(without="code_challenge"),
            self.redirected(without="code_challenge_method"),
            self.redirected(("code_challenge_method", "plain")),
            self.redirected(("code_challenge", "short")),
            self.redirected(("code_challenge", "=" * 43)),
        ):
            self.assertEqual((error.code, error.state), ("invalid_request", "s"))

    def test_other_flows(self) -> None:
        """Only the code flow by query exists; request objects are refused by their own codes."""
        self.assertEqual(self.redirected(("response_type", "token")).code, "unsupported_response_type")
        self.assertEqual(self.redirected(without="response_type").code, "invalid_request")
        self.assertEqual(self.redirected(("response_mode", "form_post")).code, "invalid_request")
        self.assertEqual(self.redirected(("request", "eyJ")).code, "request_not_supported")
        self.assertEqual(self.redirected(("request_uri", "https://x")).code, "request_uri_not_supported")
        self.assertEqual(read(("response_mode", "query")).state, "s")

    def test_repeated_parameters(self) -> None:
        """A repeated parameter is refused by redirect; a repeated state is not sent back."""
        self.assertEqual(self.redirected(("scope", "a"), ("scope", "a")).state, "s")
        self.assertIsNone(self.redirected(("state", "1"), ("state", "2")).state)

    def test_state_is_bounded_and_optional(self) -> None:
        """No state is fine (Cursor sends none); an enormous one is refused and not sent back."""
        self.assertIsNone(read(without="state").state)
        self.assertIsNone(self.redirected(("state", "s" * (MAX_STATE + 1))).state)

    def test_resources(self) -> None:
        """Everything under the base URL is accepted in the spellings clients use; foreign ones never."""
        for resource in (BASE, f"{BASE}/", f"{BASE}/mcp", f"{BASE}/mcp/", "HTTPS://MCP.example.com:443/mcp"):
            self.assertEqual(read(("resource", resource)).resource, resource)
        read(("resource", f"{BASE}/mcp"), ("resource", f"{BASE}/mcp"))
        read(("resource", f"{BASE}/mcp"), ("resource", f"{BASE}/mcp/"))
        self.assertIsNone(read().resource)
        for resources in (
            ["https://evil.example/mcp"],
            ["https://mcp.example.com.evil.example/mcp"],
            ["https://mcp.example.com@evil.example/"],
            [f"{BASE}:444/mcp"],
            ["http://mcp.example.com/mcp"],
            [f"{BASE}/mcp#x"],
            ["mcp"],
            [f"{BASE}/mcp", "https://evil.example/"],
            [f"{BASE}/mcp", f"{BASE}/other"],
        ):
            error = self.redirected(*(("resource", resource) for resource in resources))
            self.assertEqual(error.code, "invalid_target")

    def test_scopes_fall_back_to_the_registration(self) -> None:
        """A client that asks for nothing gets what it registered for; unknown scopes are dropped."""
        client = evolve(CLIENT, scope=("a", "b"))
        self.assertEqual(read(client=client, supported=frozenset("a")).scopes, ("a",))
        self.assertEqual(read(("scope", "b"), client=client).scopes, ("b",))

    def test_only_known_hints_pass(self) -> None:
        """Nothing else of the client's request reaches Keycloak, and nothing enormous."""
        request = read(
            ("kc_idp_hint", "google"),
            ("ui_locales", "de"),
            ("kc_action", "UPDATE"),
            ("login_hint", "x" * 999),
        )
        self.assertEqual(request.hints, {"kc_idp_hint": "google", "ui_locales": "de"})

    @given(st.dictionaries(st.sampled_from([*GOOD, "resource", "scope", "request"]), st.text(max_size=50)))
    def test_any_request_ends_in_a_value_or_an_error(self, changes: dict[str, str]) -> None:
        """No parameter makes the endpoint fail, and every redirect goes to the registered place."""
        pairs = {**GOOD, **changes}
        try:
            parameters = parse_query(urlencode(pairs, errors="replace").encode())
            request = read_authorization(
                parameters, CLIENT, base_url=BASE, supported=None, permitted=lambda _: True
            )
        except RedirectedError as error:
            self.assertEqual(error.redirect_uri, "https://c.example/cb")
        except OAuthError as error:
            self.assertEqual(error.status, 400)
        else:
            self.assertEqual(request.redirect_uri, "https://c.example/cb")

    def test_consent_is_for_what_was_shown(self) -> None:
        """A remembered consent does not cover another place or more scopes, whatever their order."""
        one = read(("scope", "a b")).consent_key("c.example")
        self.assertEqual(read(("scope", "b a")).consent_key("c.example"), one)
        self.assertNotEqual(read(("scope", "a b c")).consent_key("c.example"), one)
        self.assertNotEqual(read(("scope", "a b")).consent_key("d.example"), one)

    def test_requests_do_not_show(self) -> None:
        """A repr tells no state, client_id or hint."""
        shown = repr(read(("state", "geheim"), ("login_hint", "anna")))
        for secret in ("geheim", "anna", "id-1"):
            self.assertNotIn(secret, shown)


class Grants(SynchronousTestCase):
    """Redeeming codes and refresh tokens."""

    def setUp(self) -> None:
        self.tokens = Tokens.received(
            TokenResponse("at", expires_in=300, refresh_token="rt", scope="openid a"), 1000.0
        )
        self.sealer = Sealer([b"k"], lambda: 1000.0)

    def grant(self, *more: tuple[str, str]) -> CodeGrant:
        return CodeGrant(read(*more), self.tokens)

    def code_of(self, grant: CodeGrant, client: Client = CLIENT, **form: str) -> str:
        resources = (form.pop("resource"),) if "resource" in form else ()
        check = lambda: grant.check(Parameters(form, resources=resources), client, BASE)  # noqa: E731
        return self.assertRaises(OAuthError, check).code

    def test_the_right_client_with_the_right_verifier(self) -> None:
        """It gets its tokens, with or without redirect_uri, with either spelling of the resource."""
        grant = self.grant(("resource", f"{BASE}/mcp"))
        grant.check(Parameters({"code_verifier": VERIFIER}), CLIENT, BASE)
        grant.check(
            Parameters(
                {"code_verifier": VERIFIER, "redirect_uri": "https://c.example/cb"},
                resources=(f"{BASE}/mcp/",),
            ),
            CLIENT,
            BASE,
        )

    def test_everybody_else(self) -> None:
        """Another client, redirect_uri, verifier or resource is refused by its own code."""
        grant = self.grant(("resource", f"{BASE}/mcp"))
        other = evolve(CLIENT, client_id="id-2")
        self.assertEqual(self.code_of(grant, other, code_verifier=VERIFIER), "invalid_grant")
        self.assertEqual(
            self.code_of(grant, code_verifier=VERIFIER, redirect_uri="https://c.example/cb2"), "invalid_grant"
        )
        self.assertEqual(self.code_of(grant), "invalid_request")
        for wrong in ("w" * 43, "v" * 42, "v" * 129, "ü" * 43, challenge_of(VERIFIER)):
            self.assertEqual(self.code_of(grant, code_verifier=wrong), "invalid_grant")
        self.assertEqual(
            self.code_of(grant, code_verifier=VERIFIER, resource=f"{BASE}/other"), "invalid_target"
        )
        self.assertEqual(
            self.code_of(grant, code_verifier=VERIFIER, resource="https://evil.example"), "invalid_target"
        )

    @given(st.text("abcXYZ019-._~", min_size=43, max_size=128))
    def test_pkce_round_trip(self, verifier: str) -> None:
        """The verifier that made the challenge fits; any other does not."""
        grant = CodeGrant(read(("code_challenge", challenge_of(verifier))), self.tokens)
        grant.check(Parameters({"code_verifier": verifier}), CLIENT, BASE)
        self.assertEqual(self.code_of(grant, code_verifier=verifier[:-1] + "#"), "invalid_grant")

    def test_records(self) -> None:
        """A grant survives being written down; a record of another version does not open."""
        grant = self.grant()
        self.assertEqual(CodeGrant.from_record(json.loads(json.dumps(grant.to_record()))), grant)
        for record in ({}, {"tokens": {}, "request": {}}, {"tokens": {"x": 1}}):
            self.assertRaises(SealError, CodeGrant.from_record, record)
        self.assertRaises(SealError, AuthorizationRequest.from_record, {"scopes": []})

    def test_refresh_tokens_belong_to_their_client(self) -> None:
        """Another client's request with it is invalid_grant; another resource is invalid_target."""
        token = RefreshGrant(CLIENT.digest, "family", "rt", ("a",), f"{BASE}/mcp").seal(self.sealer)
        grant = RefreshGrant.open(token, self.sealer)
        grant.check(Parameters({}, resources=(f"{BASE}/mcp/",)), CLIENT, BASE)
        other = evolve(CLIENT, client_id="id-2")
        error = self.assertRaises(OAuthError, grant.check, Parameters({}), other, BASE)
        self.assertEqual(error.code, "invalid_grant")
        asked = Parameters({}, resources=(f"{BASE}/other",))
        self.assertEqual(
            self.assertRaises(OAuthError, grant.check, asked, CLIENT, BASE).code, "invalid_target"
        )

    def test_the_answer(self) -> None:
        """expires_in has aged while the code waited, and only what was asked for is named."""
        auth = Auth(base_url=BASE, issuer_url="https://k/realms/r", client_id="c", client_secret=Secret("s"))
        refresh = RefreshGrant(CLIENT.digest, "family", "rt", ("a",), None)
        answer = token_response(
            self.tokens, refresh=refresh, requested=("a",), auth=auth, sealer=self.sealer, now=1100.0
        )
        self.assertEqual(RefreshGrant.open(answer.pop("refresh_token"), self.sealer), refresh)
        self.assertEqual(
            answer, {"access_token": "at", "token_type": "Bearer", "expires_in": 200, "scope": "a"}
        )
        bare = Tokens.received(TokenResponse("at"), 0.0)
        self.assertEqual(
            token_response(bare, refresh=None, requested=(), auth=auth, sealer=self.sealer, now=0.0),
            {"access_token": "at", "token_type": "Bearer"},
        )

    def test_tokens_do_not_show(self) -> None:
        """A repr of a grant in a log tells no token."""
        shown = repr(self.grant()) + repr(RefreshGrant("c", "family", "geheim", (), None))
        for secret in ("'at'", "'rt'", "geheim"):
            self.assertNotIn(secret, shown)
