"""Reading ``auth.clients``: the clients that the operator registers by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mcp_oauth2_proxy.config.kinds import Kind
from mcp_oauth2_proxy.config.model import Secret, StaticClient
from mcp_oauth2_proxy.config.redirect_uris import read_redirect_uri
from mcp_oauth2_proxy.config.suggest import did_you_mean

_FIELDS = ("clientId", "clientSecret", "clientSecretFile", "name", "redirectUris")
#: What a sealed registration or a metadata document's URL could be mistaken for is no name for a client.
_MAX_CLIENT_ID = 200
_MIN_SECRET = 16


def read_clients(value: object) -> tuple[StaticClient, ...]:
    """Return the clients.

    :raises ValueError: naming the entry (counted from 0) and what is wrong with it.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError("is not a list; expected entries such as - clientId: inspector")  # noqa: TRY004
    clients = tuple(_client(entry, f"[{index}]") for index, entry in enumerate(value))
    names = [client.client_id for client in clients]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"has {name!r} twice")
    return clients


def _client(entry: object, where: str) -> StaticClient:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where} is not a mapping; expected clientId and redirectUris")  # noqa: TRY004
    for key in entry:
        if key not in _FIELDS:
            near = did_you_mean(str(key), _FIELDS)
            raise ValueError(f"{where}.{key} is no field of a client; expected {', '.join(_FIELDS)}{near}")
    client_id = _word(entry.get("clientId"), f"{where}.clientId")
    if len(client_id) > _MAX_CLIENT_ID or client_id.startswith("https://"):
        raise ValueError(f"{where}.clientId must be a short name and no URL")
    uris = entry.get("redirectUris")
    if not isinstance(uris, list) or not uris:
        raise ValueError(f"{where}.redirectUris must name at least one redirect URI")
    name = entry.get("name")
    return StaticClient(
        client_id=client_id,
        redirect_uris=tuple(
            _redirect_uri(uri, f"{where}.redirectUris[{index}]") for index, uri in enumerate(uris)
        ),
        client_secret=_secret(entry, where),
        name=None if name is None else _text(name, f"{where}.name"),
    )


def _redirect_uri(value: object, where: str) -> str:
    try:
        return read_redirect_uri(_text(value, where)).text
    except ValueError as error:
        raise ValueError(f"{where} {error}") from None


def _secret(entry: Mapping[object, object], where: str) -> Secret | None:
    if "clientSecret" in entry and "clientSecretFile" in entry:
        raise ValueError(f"{where} has both clientSecret and clientSecretFile; expected one")
    if "clientSecretFile" in entry:
        path = _text(entry["clientSecretFile"], f"{where}.clientSecretFile")
        try:
            secret = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise ValueError(f"{where}.clientSecretFile {path!r} cannot be read") from None
    elif "clientSecret" in entry:
        secret = _text(entry["clientSecret"], f"{where}.clientSecret")
    else:
        return None
    if len(secret) < _MIN_SECRET:
        raise ValueError(f"{where}.clientSecret is too short; expected {_MIN_SECRET} characters or more")
    return Secret(secret)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{where} is not a line of text")
    return value


def _word(value: object, where: str) -> str:
    text = _text(value, where)
    if not text.isascii() or " " in text:
        raise ValueError(f"{where} {text!r} must be ASCII without blanks")
    return text


def _show(clients: tuple[StaticClient, ...]) -> str:
    return "[" + ", ".join(client.client_id for client in clients) + "]"


_TEXT = {"type": "string", "minLength": 1}
_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "clientId": {"type": "string", "minLength": 1, "maxLength": _MAX_CLIENT_ID},
            "clientSecret": _TEXT,
            "clientSecretFile": _TEXT,
            "name": _TEXT,
            "redirectUris": {"type": "array", "items": _TEXT, "minItems": 1},
        },
        "required": ["clientId", "redirectUris"],
        "additionalProperties": False,
    },
}

CLIENTS = Kind("list of clients", read_clients, _SCHEMA, _show)
