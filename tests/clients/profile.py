"""A client as data: what it registers, where it looks, what it sends, in which order.

A profile is a YAML file of this folder; its fields are those of :class:`Profile`. Adding a client is adding a
file. ``docs/clients.md`` is made from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from attrs import field, fields, frozen

FOLDER = Path(__file__).parent
#: How a ``resource`` is spelled: not at all, as the user typed the URL, as the metadata says, or by origin.
RESOURCES = ("url", "prm", "origin", "origin/")
SECRETS = ("post", "basic", "basic-encoded", "basic-empty")


def _one_of(*accepted: str) -> Any:
    def check(_: object, attribute: Any, value: object) -> None:
        if value is not None and value not in accepted:
            raise ValueError(f"{attribute.name} is {value!r}; expected one of {', '.join(accepted)}")

    return check


def _check_resource(_: object, __: object, value: Mapping[str, str]) -> None:
    for leg, spelling in value.items():
        if leg not in ("authorize", "token", "refresh") or spelling not in RESOURCES:
            raise ValueError(
                f"resource has {leg}: {spelling}; expected a leg and one of {', '.join(RESOURCES)}"
            )


@frozen
class Profile:
    """One client.

    ``registration`` is the body of its registration and ``document`` that of its metadata document
    without ``client_id``; ``redirect_uri`` is what it sends to authorize. ``scope: as`` asks for all that
    the authorization server's metadata lists. ``secret`` says how it sends a secret, or that it sends
    an empty one. ``looks_first`` fetches the authorize URL before a browser opens it.
    ``forgets_client`` is what it does when its registration is not known any more, ``runs`` that the
    client itself is put through the proxy too (``tests/clients_real``).
    """

    name: str
    registration: Mapping[str, Any]
    redirect_uri: str
    probes: tuple[str, ...] = field(converter=tuple)
    discovery: tuple[str, ...] = field(converter=tuple)
    resource: Mapping[str, str] = field(validator=_check_resource)
    document: Mapping[str, Any] | None = None
    redirect_uri_of_document: str | None = None
    scope: str | None = None
    state: bool = True
    secret: str | None = field(default=None, validator=_one_of(*SECRETS))
    parameters: Mapping[str, str] = {}
    protocol_version: bool = True
    refresh_scope: bool = False
    looks_first: bool = False
    forgets_client: str | None = field(default=None, validator=_one_of("registers again", "loops", "stuck"))
    runs: bool = False


def read_profile(path: Path) -> Profile:
    """Return the profile in a file; raises ValueError that names the file and what is wrong with it."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = {attribute.name for attribute in fields(Profile)}
    if not isinstance(content, dict) or set(content) - known:
        unknown = sorted(set(content) - known) if isinstance(content, dict) else content
        raise ValueError(
            f"{path.name} has {unknown}; expected fields of a profile: {', '.join(sorted(known))}"
        )
    try:
        return Profile(**content)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name}: {error}") from None


def profiles() -> dict[str, Profile]:
    """Return every profile by the name of its file."""
    return {path.stem: read_profile(path) for path in sorted(FOLDER.glob("*.yaml"))}


BEGIN, END = "<!-- clients:begin -->", "<!-- clients:end -->"


def with_clients(document: str) -> str:
    """Return ``docs/clients.md`` with the table between its markers made anew."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = [
        "| Client | Known by | Redirect URI | At the token endpoint | Tried as |",
        "|---|---|---|---|---|",
    ]
    for profile in sorted(profiles().values(), key=lambda profile: profile.name.lower()):
        known_by = "metadata document, registration" if profile.document else "registration"
        secret = {"post": "secret in the body", "basic-empty": "empty Basic, then the body"}
        sent = secret.get(profile.secret or "", "secret by Basic" if profile.secret else "no secret")
        tried = "itself and a profile" if profile.runs else "a profile"
        place = profile.redirect_uri.partition("://")
        target = f"{place[0]}://{place[2].partition('/')[0]}"
        lines.append(f"| {profile.name} | {known_by} | `{target}` | {sent} | {tried} |")
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}"
