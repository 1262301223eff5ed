"""Resource identifiers: the URL of the MCP server as its clients know it (RFC 8707, RFC 9728)."""

from __future__ import annotations

import posixpath
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"https": 443, "http": 80}
_WELL_KNOWN = "/.well-known/oauth-protected-resource"


def resource_url(base_url: str, path: str) -> str:
    """Return the URL a person types for ``path`` (below the base path, ``""`` or ``/`` for the root)."""
    return base_url + path.rstrip("/")


def metadata_url(base_url: str, path: str) -> str:
    """Return where that resource's metadata is: the path-suffixed form of RFC 9728 section 3.1."""
    split = urlsplit(base_url)
    suffix = split.path.rstrip("/") + path.rstrip("/")
    return f"{split.scheme}://{split.netloc}{_WELL_KNOWN}{suffix}"


def canonical(url: str) -> str | None:
    """Return the form in which resource identifiers are compared, or ``None`` for what is not one.

    Four spellings are made equal, since clients differ in just these: a trailing slash, dot segments
    of the path, the case of scheme and host, and a default port that is written out.
    """
    if not url.isascii() or any(character <= " " or character == "\\" for character in url):
        return None
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        return None
    scheme, host = split.scheme.lower(), split.hostname
    if scheme not in _DEFAULT_PORTS or not host or split.username is not None or "#" in url:
        return None
    if ":" in host:
        host = f"[{host}]"
    if port is not None and port != _DEFAULT_PORTS[scheme]:
        host = f"{host}:{port}"
    path = posixpath.normpath("/" + split.path.lstrip("/")) if "/." in split.path else split.path
    query = f"?{split.query}" if split.query else ""
    return f"{scheme}://{host}{path.rstrip('/')}{query}"


def same_resource(one: str, other: str) -> bool:
    """Return whether two identifiers name the same resource."""
    return (first := canonical(one)) is not None and first == canonical(other)


def within(base_url: str, resource: str) -> bool:
    """Return whether ``resource`` is the base URL, its bare origin, or something below it.

    Clients that were given only a host send its origin, and a token for it works for every path.
    """
    base, wanted = canonical(base_url), canonical(resource)
    if base is None or wanted is None:
        return False
    origin = "/".join(base.split("/", 3)[:3])
    return wanted in (base, origin) or wanted.startswith((base + "/", base + "?"))
