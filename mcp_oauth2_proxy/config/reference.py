"""The configuration for people: the reference table, and the effective configuration of ``check-config``."""

from __future__ import annotations

from urllib.parse import urlsplit

from mcp_oauth2_proxy.config.fields import FIELDS, Field, value_of
from mcp_oauth2_proxy.config.load import Loaded
from mcp_oauth2_proxy.config.model import Config, Consent

BEGIN, END = "<!-- configuration:begin -->", "<!-- configuration:end -->"


def reference_table() -> str:
    """Return the reference of all fields as a Markdown table."""
    rows = [f"| `{field.path}` | {_needed(field)} | {_default(field)} | {field.doc} |" for field in FIELDS]
    return "\n".join(["| Field | Required | Default | Description |", "|---|---|---|---|", *rows])


def with_reference(document: str) -> str:
    """Return ``document`` with the table between its markers made anew."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{reference_table()}\n{END}{after}"


def effective(loaded: Loaded) -> list[str]:
    """Return a line a field: its value, secrets masked, and where it came from."""
    lines = []
    for field in FIELDS:
        value = value_of(loaded.config, field)
        shown = "not set" if value is None else field.kind.show(value)
        lines.append(f"{field.path} = {shown}   # {loaded.sources[field.path]}")
    return lines


def _needed(field: Field) -> str:
    return "Yes" if field.required else "No"


def _default(field: Field) -> str:
    if field.path == "auth.authorizationServers":
        return "`[baseUrl]`"
    if field.required or field.default is None:
        return "—"
    return f"`{field.kind.show(field.default)}`"


def warnings(config: Config) -> list[str]:
    """Return what is accepted but seldom meant."""
    found = []
    for path, url in (("auth.baseUrl", config.auth.base_url), ("auth.issuerUrl", config.auth.issuer_url)):
        split = urlsplit(url)
        if split.scheme == "http" and split.hostname not in ("localhost", "127.0.0.1", "::1"):
            found.append(f"{path} is http: tokens and codes travel in the clear")
    if config.auth.consent is Consent.NEVER:
        found.append("auth.consent is never: any website can obtain a token for a person who is logged in")
    return found
