"""Where a request goes: the raw target joined to the upstream's URL. Pure; nothing is re-encoded."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from attrs import field, frozen

#: No path has these in it (RFC 3986 section 3.3), and servers disagree about what they mean there.
_NOT_IN_PATH = re.compile(rb'[\x00-\x20\x7f-\xff\\"<>#]')
#: Nor these in a query; browsers do leave backslashes and braces there.
_NOT_IN_QUERY = re.compile(rb"[\x00-\x20\x7f-\xff#]")
#: A step up or on the spot, as lenient servers read it: percent-encoded, with parameters, between
#: slashes of any kind.
_DOT_SEGMENT = re.compile(rb"(?:^|/|\\|%2f|%5c)(?:\.|%2e){1,2}(?=$|/|\\|;|%2f|%5c|%3b)", re.IGNORECASE)
_ABSOLUTE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)


class BadTargetError(Exception):
    """The request target is not one that can be relayed; the text is safe to show."""


def split_target(target: bytes) -> tuple[bytes, bytes | None]:
    """Return the raw path and the raw query (``None`` without a ``?``) of a request target.

    The absolute form (RFC 9112 section 3.2.2) loses its scheme and authority. Raises
    :exc:`BadTargetError` for anything else that does not begin with a slash, for bytes that no URL has,
    and for paths with dot segments: those could climb out of the upstream's own path, and the
    upstream would see another resource than the one the token was judged for. No honest client sends
    them, since URL parsers resolve them first.
    """
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.match(target)
        if absolute is None:
            raise BadTargetError("the request target is not a path")
        target = target[absolute.end() :]
        if not target.startswith(b"/"):
            target = b"/" + target
    path, mark, query = target.partition(b"?")
    if _NOT_IN_PATH.search(path) or _NOT_IN_QUERY.search(query):
        raise BadTargetError("the request target has characters that no URL has")
    # Most paths have neither, and need no second look.
    if (b"." in path or b"%2" in path) and _DOT_SEGMENT.search(path):
        raise BadTargetError("the request target has dot segments")
    return path, query if mark else None


@frozen
class UpstreamTarget:
    """``upstream.url``, taken apart once; joins as Go's ``httputil.ProxyRequest.SetURL`` does."""

    #: ``scheme://host:port``
    origin: bytes
    #: The upstream's ``Host``, as it stands in the URL.
    host: bytes
    _path: bytes = field(alias="path")
    _query: bytes = field(alias="query")

    @classmethod
    def from_url(cls, url: str) -> UpstreamTarget:
        """Return the target of an absolute ``http`` or ``https`` URL."""
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2].encode("ascii")
        return cls(
            origin=parts.scheme.encode("ascii") + b"://" + host,
            host=host,
            path=parts.path.encode("ascii"),
            query=parts.query.encode("ascii"),
        )

    def join(self, path: bytes, query: bytes | None) -> bytes:
        """Return the absolute URL upstream of a request's raw ``path`` and ``query``.

        The paths are joined by one slash, the queries by ``&``; an empty query keeps its ``?``.
        """
        if self._path:
            path = self._path.removesuffix(b"/") + path
        if self._query:
            query = self._query + b"&" + query if query else self._query
        return self.origin + path if query is None else self.origin + path + b"?" + query
