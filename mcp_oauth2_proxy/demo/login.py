"""Logging in at the embedded identity provider: the form, single sign-on, and the way back to the client.

Like the token endpoint's rules this knows no HTTP: it is asked with cookies and parameters and says what to
answer. Keycloak's cookies keep their names; ``AUTH_SESSION_ID`` stands for the browser that sees the form,
``KEYCLOAK_IDENTITY`` for the user who is logged in.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from attrs import field, frozen

from mcp_oauth2_proxy.demo.authorize import Rejected, Untrusted, answer, check
from mcp_oauth2_proxy.demo.logout import Ending
from mcp_oauth2_proxy.demo.pages import login_page, message_page
from mcp_oauth2_proxy.demo.realm import RealmDefinition
from mcp_oauth2_proxy.demo.sessions import (
    Attempt,
    AuthorizationRequest,
    Code,
    Memory,
    Randomness,
    Session,
)

BROWSER_COOKIE = "AUTH_SESSION_ID"
IDENTITY_COOKIE = "KEYCLOAK_IDENTITY"
_NO_COOKIE = (
    "Restart login cookie not found. It may have expired; it may have been deleted or cookies are disabled "
    "in your browser. If cookies are disabled then enable them. Click Back to Application to login again."
)


@frozen
class Page:
    """Show ``body``."""

    status: int
    body: bytes = field(repr=False)
    cookies: Mapping[str, str] = field(factory=dict, repr=False)


@frozen
class Redirect:
    """Send the browser to ``location``."""

    location: str = field(repr=False)
    cookies: Mapping[str, str] = field(factory=dict, repr=False)


class Login:
    """One realm's authorization endpoint and login form."""

    def __init__(
        self, realm: RealmDefinition, memory: Memory, randomness: Randomness, ending: Ending
    ) -> None:
        self._realm = realm
        self._ending = ending
        self._memory = memory
        self._randomness = randomness

    def authorize(
        self,
        parameters: Mapping[str, str],
        duplicated: bool,
        cookies: Mapping[str, str],
        *,
        issuer: str,
        now: float,
    ) -> Page | Redirect:
        """Answer a request to the authorization endpoint. ``duplicated``: a parameter came twice."""
        request = check(parameters, duplicated, self._realm)
        if isinstance(request, Untrusted):
            return Page(400, message_page("We are sorry...", request.message))
        if isinstance(request, Rejected):
            return Redirect(
                answer(
                    request.redirect_uri,
                    {
                        "error": request.error,
                        "error_description": request.description,
                        "state": request.state,
                        "iss": issuer,
                    },
                )
            )
        session = self._memory.identities.get(cookies.get(IDENTITY_COOKIE, ""))
        if session is not None and request.prompt != "login":
            return self._accept(request, session, issuer, now, fresh=False)
        if request.prompt == "none":
            refusal = {"error": "login_required", "state": request.state, "iss": issuer}
            return Redirect(answer(request.redirect_uri, refusal))
        browser = cookies.get(BROWSER_COOKIE) or self._randomness.name()
        tab = self._randomness.name(8)
        return self._form(browser, tab, Attempt(request, ""), issuer=issuer)

    def _form(
        self,
        browser: str,
        tab: str,
        attempt: Attempt,
        *,
        issuer: str,
        username: str = "",
        error: str | None = None,
    ) -> Page:
        """Show the form, with a new session code."""
        attempt.code = self._randomness.name(32)
        self._memory.attempts[browser, tab] = attempt
        query = urlencode(
            {
                "session_code": attempt.code,
                "execution": self._randomness.uuid(),
                "client_id": attempt.request.client_id,
                "tab_id": tab,
                "client_data": self._client_data(attempt.request),
            }
        )
        action = f"{issuer}/login-actions/authenticate?{query}"
        body = login_page(self._realm.name, action, username, error)
        return Page(200, body, {BROWSER_COOKIE: browser})

    @staticmethod
    def _client_data(request: AuthorizationRequest) -> str:
        """Return where to send the browser when the form is stale, in the form's own URL as Keycloak does."""
        pairs = {"ru": request.redirect_uri, **({"st": request.state} if request.state is not None else {})}
        return urlencode(pairs)

    def submit(
        self,
        query: Mapping[str, str],
        form: Mapping[str, str],
        cookies: Mapping[str, str],
        *,
        issuer: str,
        now: float,
    ) -> Page | Redirect:
        """Answer the form."""
        browser, tab = cookies.get(BROWSER_COOKIE), query.get("tab_id", "")
        if browser is None:
            return Page(400, message_page("We are sorry...", _NO_COOKIE))
        attempt = self._memory.attempts.get((browser, tab))
        if attempt is None or not hmac.compare_digest(attempt.code, query.get("session_code", "")):
            return self._expired(query, issuer)
        username = form.get("username", "")
        user = self._realm.user(username)
        if user is None or not hmac.compare_digest(user.password.encode(), form.get("password", "").encode()):
            error = "Invalid username or password."
            return self._form(browser, tab, attempt, issuer=issuer, username=username, error=error)
        del self._memory.attempts[browser, tab]
        session = Session(self._randomness.name(), user, int(now))
        self._memory.sessions[session.sid] = session
        return self._accept(attempt.request, session, issuer, now, fresh=True)

    def _expired(self, query: Mapping[str, str], issuer: str) -> Page | Redirect:
        """Answer a form that was already used: starting again succeeds by single sign-on."""
        data = dict(parse_qsl(query.get("client_data", "")))
        client = self._realm.client(query.get("client_id"))
        if client is None or not client.allows_redirect(data.get("ru", "")):
            return Page(400, message_page("We are sorry...", "Your login attempt timed out."))
        refusal = {
            "error": "temporarily_unavailable",
            "error_description": "authentication_expired",
            "state": data.get("st"),
            "iss": issuer,
        }
        return Redirect(answer(data["ru"], refusal))

    def _accept(
        self, request: AuthorizationRequest, session: Session, issuer: str, now: float, *, fresh: bool
    ) -> Redirect:
        """Send the browser back with a code; the identity cookie makes the next login silent."""
        value = f"{self._randomness.uuid()}.{session.sid}.{self._randomness.uuid()}"
        self._memory.codes[value] = Code(request, session, now + self._realm.code_lifespan, fresh)
        identity = self._randomness.name(32)
        self._memory.identities[identity] = session
        location = answer(
            request.redirect_uri,
            {"state": request.state, "session_state": session.sid, "iss": issuer, "code": value},
        )
        return Redirect(location, {IDENTITY_COOKIE: identity})

    def log_out(
        self,
        parameters: Mapping[str, str],
        cookies: Mapping[str, str],
        hint: Mapping[str, object] | None,
        *,
        issuer: str,
        now: float,
    ) -> Page | Redirect:
        """Answer the end-session endpoint (RP-Initiated Logout 1.0); ``hint``: the ID token's claims."""
        session = self._memory.identities.get(cookies.get(IDENTITY_COOKIE, ""))
        if hint is not None:
            session = self._memory.sessions.get(str(hint["sid"])) or session
        client_id = str(hint["azp"]) if hint is not None else parameters.get("client_id")
        client = self._realm.client(client_id)
        if session is not None and hint is None:
            return Page(200, message_page("Logging out", "Do you want to log out?"))
        if session is not None:
            self._ending.end(session, issuer=issuer, now=now)
        target = parameters.get("post_logout_redirect_uri")
        if target is not None and client is not None and client.allows_redirect(target):
            return Redirect(answer(target, {"state": parameters.get("state")}).rstrip("?"))
        return Page(200, message_page("You are logged out", "You are logged out"))
