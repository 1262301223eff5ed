"""Resource identifiers: the URL of the MCP server as its clients know it (RFC 8707, RFC 9728)."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

#: Longest URL, in characters, that is taken for a resource identifier.
MAX_LENGTH = 2048
_DEFAULT_PORTS = {"https": 443, "http": 80}
_WELL_KNOWN = "/.well-known/oauth-protected-resource"


def resource_url(base_url: str, path: str) -> str:
    """Return the URL a person types for ``path``, below the base path: clients compare it as a string.

    A trailing slash is part of what was typed, except that of the root, which URLs have or not.
    """
    return base_url + _typed(path)


def metadata_url(base_url: str, path: str) -> str:
    """Return where that resource's metadata is: the path-suffixed form of RFC 9728 section 3.1."""
    split = urlsplit(base_url)
    suffix = split.path.removesuffix("/") + _typed(path)
    return f"{split.scheme}://{split.netloc}{_WELL_KNOWN}{suffix}"


def _typed(path: str) -> str:
    return "" if path == "/" else path


def canonical(url: str) -> str | None:
    """Return the form in which resource identifiers are compared, or ``None`` for what is not one.

    Four spellings are made equal, since clients differ in just these: a trailing slash, dot segments
    of the path, the case of scheme and host, and a default port that is written out.
    """
    return _canonical(url) if len(url) <= MAX_LENGTH else None


@lru_cache(maxsize=512)
def _canonical(url: str) -> str | None:
    if not url.isascii() or any(character <= " " or character in "\\#\x7f" for character in url):
        return None
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        return None
    scheme, host = split.scheme, split.hostname
    if scheme not in _DEFAULT_PORTS or not host or split.username is not None:
        return None
    if ":" in host:
        host = f"[{host}]"
    if port is not None and port != _DEFAULT_PORTS[scheme]:
        host = f"{host}:{port}"
    query = f"?{split.query}" if split.query else ""
    return f"{scheme}://{host}{_without_dots(split.path).removesuffix('/')}{query}"


def _without_dots(path: str) -> str:
    """Return ``path`` without dot segments (RFC 3986 section 5.2.4); empty segments stay."""
    if "/." not in path:
        return path
    segments: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del segments[-1:]
        elif segment != ".":
            segments.append(segment)
    if path.endswith(("/.", "/..")):
        segments.append("")
    return "/" + "/".join(segments)


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
