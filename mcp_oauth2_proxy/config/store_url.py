"""``store.url``: which store, where it is, and who we are to it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, unquote

from mcp_oauth2_proxy.config.model import Secret, StoreKind, StoreUrl

#: Ports where a URL names none: Redis's own and Sentinel's.
REDIS_PORT, SENTINEL_PORT = 6379, 26379
EXAMPLES = (
    "memory://, sqlite:///path, redis://host:6379/0, rediss://user:password@host/0, "
    "redis+sentinel://host,host,host/service or redis+cluster://host,host,host"
)

_SCHEMES = {
    "memory": (StoreKind.MEMORY, False),
    "sqlite": (StoreKind.SQLITE, False),
    "redis": (StoreKind.REDIS, False),
    "rediss": (StoreKind.REDIS, True),
    "redis+sentinel": (StoreKind.SENTINEL, False),
    "rediss+sentinel": (StoreKind.SENTINEL, True),
    "redis+cluster": (StoreKind.CLUSTER, False),
    "rediss+cluster": (StoreKind.CLUSTER, True),
}
_HOST = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?")
_SENTINEL_QUERY = {"sentinel_username", "sentinel_password"}


def parse_store_url(text: str) -> StoreUrl:
    """Return what ``text`` names.

    Raises ``ValueError``, whose message shows nothing that could be a credential.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError(f"is not the URL of a store that is built in; expected {EXAMPLES}")
    kind, tls = _SCHEMES[scheme]
    if kind is StoreKind.MEMORY:
        if rest:
            raise ValueError("has something after memory://; expected nothing")
        return StoreUrl()
    if kind is StoreKind.SQLITE:
        return StoreUrl(kind, path=_file(rest))
    rest, _, query = rest.partition("?")
    place, _, path = rest.partition("/")
    credentials, _, hosts_text = place.rpartition("@")
    hosts = _hosts(hosts_text, SENTINEL_PORT if kind is StoreKind.SENTINEL else REDIS_PORT, kind)
    username, password = _credentials(credentials)
    parameters = _parameters(query, _SENTINEL_QUERY if kind is StoreKind.SENTINEL else set())
    service, database = _path(path, kind)
    sentinel_password = parameters.get("sentinel_password")
    return StoreUrl(
        kind,
        tls=tls,
        hosts=hosts,
        username=username,
        password=password,
        service=service,
        database=database,
        sentinel_username=parameters.get("sentinel_username"),
        sentinel_password=Secret(sentinel_password) if sentinel_password else None,
    )


def _file(rest: str) -> str:
    path = unquote(rest)
    if not path.startswith("/"):
        raise ValueError("names no absolute path; expected for example sqlite:///var/lib/mcp/store.db")
    if "?" in rest or "#" in rest or "\0" in path:
        raise ValueError("has a query or fragment; expected for example sqlite:///var/lib/mcp/store.db")
    if path.endswith("/") or not PurePosixPath(path).name:
        raise ValueError("names a directory; expected a file, for example sqlite:///var/lib/mcp/store.db")
    return path


def _credentials(text: str) -> tuple[str | None, Secret | None]:
    if not text:
        return None, None
    username, colon, password = text.partition(":")
    if not colon or not password:
        raise ValueError("has a user and no password; expected user:password@ or :password@ before the host")
    return unquote(username) or None, Secret(unquote(password))


def _hosts(text: str, default_port: int, kind: StoreKind) -> tuple[tuple[str, int], ...]:
    found = []
    for part in text.split(","):
        match = _HOST.fullmatch(part)
        if match is None or not 0 < int(match["port"] or default_port) < 65536:
            # What was meant as a password may have ended up here, so it is not repeated.
            raise ValueError("names no usable host; a special character of a password is written as %40")
        found.append((match["host"].strip("[]"), int(match["port"] or default_port)))
    if kind is StoreKind.REDIS and len(found) > 1:
        raise ValueError("names several hosts; expected redis+sentinel:// or redis+cluster:// for that")
    return tuple(found)


def _parameters(query: str, known: set[str]) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    if len(dict(pairs)) < len(pairs) or not set(dict(pairs)) <= known:
        expected = " and ".join(sorted(known)) or "none"
        raise ValueError(f"has a parameter that is not known, or twice; expected {expected} after the ?")
    return dict(pairs)


def _path(path: str, kind: StoreKind) -> tuple[str, int]:
    """Return the Sentinel service and the number of the database."""
    service = ""
    if kind is StoreKind.SENTINEL:
        service, _, path = path.partition("/")
        service = unquote(service)
        if not service:
            raise ValueError("names no service; expected redis+sentinel://host,host,host/service")
    if kind is StoreKind.CLUSTER and path not in ("", "0"):
        raise ValueError("names a database; a cluster has only one")
    if not re.fullmatch(r"\d{0,4}", path):
        raise ValueError("has a database that is no number; expected for example redis://host:6379/0")
    return service, int(path or 0)
