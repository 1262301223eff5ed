"""The pages that people see: consent, the step onwards, what went wrong. No script, nothing foreign."""

from __future__ import annotations

import base64
import hashlib
from functools import cached_property
from urllib.parse import urlsplit

from attrs import frozen
from jinja2 import Environment, PackageLoader, StrictUndefined

from mcp_oauth2_proxy.facade.answers import Answer, html_answer
from mcp_oauth2_proxy.facade.errors import OAuthError
from mcp_oauth2_proxy.facade.names import harmless, mixes_scripts
from mcp_oauth2_proxy.facade.redirects import parse_redirect_uri
from mcp_oauth2_proxy.troubles import BY_CODE

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
        name = harmless(view.client_name or "")
        page = self._render(
            "consent.html",
            client=name or "An app without a name",
            pretends=mixes_scripts(name),
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

    def error(self, error: OAuthError, reference: str, *, back: str | None = None) -> Answer:
        """Return what went wrong, what to do about it, and the reference that the log knows it by.

        ``back`` is the URL by which the client hears of it, once the person has seen where that leads.
        """
        page = self._render(
            "error.html",
            description=error.description,
            advice=BY_CODE[error.reason.value].person,
            reason=error.reason.value,
            reference=reference,
            passing=error.status == 503,
            back=back,
            target=urlsplit(back).netloc if back else None,
        )
        return html_answer(error.status, page, self.policy(form=False))

    def _render(self, template: str, **values: object) -> str:
        return self._environment.get_template(template).render(style=self.style, **values)


def is_web(url: str) -> bool:
    """Return whether a browser follows a redirect to ``url`` without asking: http and https."""
    return urlsplit(url).scheme in ("http", "https")
