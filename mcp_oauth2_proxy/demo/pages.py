"""The pages of the embedded identity provider: a login form with Keycloak's field names, and messages."""

from __future__ import annotations

from html import escape

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:24rem;margin:4rem auto;padding:0 1rem;"
    "color-scheme:light dark}input,button{font:inherit;width:100%;box-sizing:border-box;padding:.5rem;"
    "margin:.25rem 0 1rem}.error{color:#c9190b}"
)


def _page(title: str, body: str) -> bytes:
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>"
    ).encode()


def login_page(realm: str, action: str, username: str = "", error: str | None = None) -> bytes:
    """Return the login form; ``action`` is the URL it posts to."""
    shown = f'<p class="error" id="input-error-username" role="alert">{escape(error)}</p>' if error else ""
    return _page(
        f"Sign in to {realm}",
        f"<h1>Sign in to {escape(realm)}</h1>{shown}"
        f'<form id="kc-form-login" action="{escape(action)}" method="post">'
        '<label for="username">Username or email</label>'
        f'<input id="username" name="username" value="{escape(username)}" type="text" '
        'autocomplete="username" autofocus>'
        '<label for="password">Password</label>'
        '<input id="password" name="password" value="" type="password" autocomplete="current-password">'
        '<input type="hidden" id="id-hidden-input" name="credentialId">'
        '<button name="login" id="kc-login" type="submit">Sign In</button></form>',
    )


def message_page(title: str, message: str) -> bytes:
    """Return a page that says something; where Keycloak has it, the text is Keycloak's."""
    return _page(
        title, f'<h1>{escape(title)}</h1><p id="kc-error-message" class="instruction">{escape(message)}</p>'
    )
