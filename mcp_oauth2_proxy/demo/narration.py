"""Telling a person what happens, step by step, with each HTTP exchange in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TextIO
from urllib.parse import parse_qsl, urlsplit

from attrs import define, field, frozen

from mcp_oauth2_proxy.demo.exchange import Exchange

#: Query parameters worth showing; their values are shortened, so that no line holds a usable secret.
_SHOWN = ("client_id", "state", "code", "error")
_SHOWN_CHARACTERS = 4


@frozen
class _Rule:
    """What an exchange means; each meaning is told once."""

    actor: str
    method: str
    path: str
    statuses: tuple[int, ...]
    meaning: str


_RULES = (
    _Rule(
        "client",
        "POST",
        r"/mcp",
        (401,),
        "The MCP client calls the server without a token. The 401 says where to read on.",
    ),
    _Rule(
        "client",
        "GET",
        r"/\.well-known/oauth-protected-resource.*",
        (200,),
        "It reads who hands out tokens for this server.",
    ),
    _Rule(
        "client",
        "GET",
        r"/\.well-known/(oauth-authorization-server|openid-configuration).*",
        (200,),
        "It reads that authorization server's endpoints: the proxy plays the part.",
    ),
    _Rule(
        "client",
        "POST",
        r"/oauth/register",
        (201,),
        "It registers itself, so nobody has to create it in Keycloak.",
    ),
    _Rule(
        "browser",
        "GET",
        r"/oauth/authorize",
        (200,),
        "It opens the user's browser. The proxy asks whether this client may connect.",
    ),
    _Rule(
        "browser",
        "POST",
        r"/oauth/consent",
        (200, 302, 303),
        "The user allows it, and the proxy sends the browser on to Keycloak.",
    ),
    _Rule("browser", "GET", r"/realms/[^/]+/protocol/.*", (200,), "Keycloak shows its login form."),
    _Rule(
        "browser",
        "POST",
        r"/realms/[^/]+/login-actions/.*",
        (302,),
        "The user logs in, and Keycloak sends the browser back to the proxy with a code.",
    ),
    _Rule(
        "proxy",
        "POST",
        r"/realms/[^/]+/protocol/openid-connect/token",
        (200,),
        "The proxy redeems Keycloak's code itself, and checks the ID token.",
    ),
    _Rule(
        "browser",
        "GET",
        r"/oauth/callback",
        (200, 302, 303),
        "The browser goes back to the client with a code of the proxy's own.",
    ),
    _Rule(
        "client",
        "POST",
        r"/oauth/token",
        (200,),
        "The client exchanges that code and its PKCE verifier for Keycloak's access token.",
    ),
    _Rule(
        "client",
        "POST",
        r"/mcp",
        (200, 202),
        "With the token the call goes through to the MCP server: they shake hands.",
    ),
)


def shorten(value: str) -> str:
    """Return enough of a value to recognise it, and not enough to use it."""
    return value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}..."


def show_url(url: str) -> str:
    """Return path and, shortened, the query parameters that tell the story."""
    parts = urlsplit(url)
    shown = [f"{name}={shorten(value)}" for name, value in parse_qsl(parts.query) if name in _SHOWN]
    return parts.path + (f"?{'&'.join(shown)}" if shown else "")


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Say whether to colour: only for a person at a terminal who has not asked for none."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


@define
class Narrator:
    """Writes the story to ``stream``."""

    stream: TextIO
    colour: bool = False
    _steps: int = 0
    _told: set[_Rule] = field(factory=set)

    @classmethod
    def on(cls, stream: TextIO) -> Narrator:
        """Return a narrator that suits the stream."""
        return cls(stream, wants_colour(stream, os.environ))

    def _write(self, text: str, code: str) -> None:
        self.stream.write(f"\x1b[{code}m{text}\x1b[0m\n" if self.colour else f"{text}\n")
        self.stream.flush()

    def heading(self, text: str) -> None:
        """Begin a part."""
        self._write(f"\n{text}", "1")

    def step(self, text: str) -> None:
        """Tell what happens next."""
        self._steps += 1
        self._write(f"\n{self._steps:2}. {text}", "1;36")

    def detail(self, text: str) -> None:
        """Tell what came of it."""
        self._write(f"    {text}", "0")

    def exchange(self, exchange: Exchange) -> None:
        """Show an exchange in one line, after what it means where that is new."""
        path = urlsplit(exchange.url).path
        for rule in _RULES:
            matches = (
                (rule.actor, rule.method) == (exchange.actor, exchange.method)
                and exchange.status in rule.statuses
                and re.fullmatch(rule.path, path)
            )
            if matches and rule not in self._told:
                self._told.add(rule)
                self.step(rule.meaning)
                break
        line = f"    {exchange.actor:9}{exchange.method:5} {show_url(exchange.url)}  ->  {exchange.status}"
        self._write(line, "2")
