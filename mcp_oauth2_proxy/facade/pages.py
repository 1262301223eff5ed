"""The pages that people see: consent, the step onwards, what went wrong. No script, nothing foreign."""

from __future__ import annotations

import base64
import hashlib
from functools import cached_property
from urllib.parse import urlsplit

from attrs import frozen
from jinja2 import Environment, PackageLoader, StrictUndefined

from mcp_oauth2_proxy.facade.answers import Answer, html_answer
from mcp_oauth2_proxy.facade.errors import OAuthError, Reason
from mcp_oauth2_proxy.facade.names import harmless
from mcp_oauth2_proxy.facade.redirects import parse_redirect_uri

#: Scopes that have a plain meaning for the person who is asked; others are shown by their name.
SCOPE_MEANINGS = {
    "openid": "Know who you are",
    "profile": "See your name and profile",
    "email": "See your email address",
    "address": "See your postal address",
    "phone": "See your phone number",
    "groups": "See the groups you belong to",
    "roles": "See the roles you have",
    "offline_access": "Stay connected while you are away",
}

_START_AGAIN = "Go back to your app and start signing in again."
_ADD_AGAIN = "Remove the server in your app and add it again."
#: What the person can do about it, by the reason.
ADVICE = {
    Reason.CLIENT_MISSING: _ADD_AGAIN,
    Reason.CLIENT_UNKNOWN: _ADD_AGAIN,
    Reason.CLIENT_EXPIRED: _ADD_AGAIN,
    Reason.REDIRECT_MISMATCH: _ADD_AGAIN,
    Reason.CLIENT_DOCUMENT: "Tell who runs this server which app it was: it is not accepted here.",
    Reason.CLIENT_DOCUMENT_DOWN: "Wait a moment and try again.",
    Reason.REDIRECT_DENIED: "Tell who runs this server which app it was: it is not accepted here.",
    Reason.CONSENT_FORGED: _START_AGAIN,
    Reason.CONSENT_EXPIRED: _START_AGAIN,
    Reason.CONSENT_BROWSER: "Allow cookies for this site, then go back to your app and start again.",
    Reason.STATE_UNKNOWN: _START_AGAIN,
    Reason.STATE_BROWSER: "Finish signing in with the browser in which you started, or start again.",
    Reason.ISSUER: _START_AGAIN,
    Reason.REALM_UNREADY: "Wait a moment and try again.",
    Reason.KEYCLOAK_DOWN: "Wait a moment and try again.",
    Reason.RATE_LIMITED: "Wait a minute and try again.",
    Reason.STORE_DOWN: "Wait a moment and try again.",
}
_ADVICE_OTHERWISE = "Go back to your app and try again."


@frozen
class ConsentView:
    """What the consent page says, before it is made harmless and escaped."""

    client_name: str | None
    publisher: str | None
    redirect_uri: str
    scopes: tuple[str, ...]
    resource: str
    provider: str
    action: str
    sealed_request: str
    remembers: bool


class Pages:
    """The templates and their one style sheet, which the policy admits by its hash."""

    @cached_property
    def _environment(self) -> Environment:
        return Environment(
            loader=PackageLoader("mcp_oauth2_proxy.facade", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    @cached_property
    def style(self) -> str:
        """The style sheet exactly as it stands between the tags."""
        environment = self._environment
        assert environment.loader is not None  # noqa: S101 (set four lines above)
        return environment.loader.get_source(environment, "style.css")[0].strip()

    def policy(self, *, form: bool) -> str:
        """Return the Content-Security-Policy of a page with or without a form.

        Chromium applies ``form-action`` to the redirects that follow a submission too, so pages with
        a form never answer it by a redirect: they lead on through :meth:`leave`.
        """
        style = base64.b64encode(hashlib.sha256(self.style.encode("utf-8")).digest()).decode("ascii")
        action = "'self'" if form else "'none'"
        return (
            f"default-src 'none'; style-src 'sha256-{style}'; form-action {action}; "
            "frame-ancestors 'none'; base-uri 'none'"
        )

    def consent(self, view: ConsentView) -> Answer:
        """Return the question whether the client may act for the person at this browser."""
        redirect = parse_redirect_uri(view.redirect_uri)
        page = self._render(
            "consent.html",
            client=harmless(view.client_name or "") or "An app without a name",
            publisher=view.publisher,
            target=redirect.target,
            is_loopback=redirect.is_loopback,
            is_app=not redirect.is_web,
            scopes=[(harmless(scope), SCOPE_MEANINGS.get(scope)) for scope in view.scopes],
            resource=view.resource,
            provider=view.provider,
            action=view.action,
            sealed_request=view.sealed_request,
            remembers=view.remembers,
        )
        return html_answer(200, page, self.policy(form=True))

    def leave(self, url: str, *, done: bool) -> Answer:
        """Return a page that moves on to ``url`` by itself and by a link; ``done`` when the login is over.

        This is how a form's answer leaves for another origin, and how a browser reaches an app's scheme.
        """
        parts = urlsplit(url)
        web = parts.scheme in ("http", "https")
        page = self._render(
            "leave.html", url=url, target=parts.netloc if web else f"{parts.scheme}:", web=web, done=done
        )
        return html_answer(200, page, self.policy(form=False))

    def error(self, error: OAuthError, reference: str) -> Answer:
        """Return what went wrong, what to do about it, and the reference that the log knows it by."""
        page = self._render(
            "error.html",
            description=error.description,
            advice=ADVICE.get(error.reason, _ADVICE_OTHERWISE),
            code=error.code,
            reason=error.reason.value,
            reference=reference,
            passing=error.status == 503,
        )
        return html_answer(error.status, page, self.policy(form=False))

    def _render(self, template: str, **values: object) -> str:
        return self._environment.get_template(template).render(style=self.style, **values)


def is_web(url: str) -> bool:
    """Return whether a browser follows a redirect to ``url`` without asking: http and https."""
    return urlsplit(url).scheme in ("http", "https")
