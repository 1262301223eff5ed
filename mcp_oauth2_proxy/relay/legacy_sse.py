"""The ``endpoint`` event of legacy HTTP+SSE (MCP revision 2024-11-05), where the paths outside differ. Pure.

Such a server's first event names the path to post to, as the server sees itself. Behind a path prefix a
client would resolve it past the proxy, so that one line is rewritten; every other byte passes as it is.
"""

from __future__ import annotations

import re

#: Bytes of a first event; an endpoint event has about a hundred. More is some other event, and passes.
MAX_FIRST_EVENT = 4096

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r|\r\n\n|\n\r\n|\r\n\r(?!\n)|\n\r(?!\n)")
_ENDPOINT = re.compile(rb"(?:^|[\r\n])event:[ ]?endpoint(?=[\r\n])")
_DATA = re.compile(rb"((?:^|[\r\n])data:[ ]?)(/[^\r\n]*)")


class PathPrefixes:
    """How paths look to the upstream and to clients: each side's prefix, without a trailing slash."""

    def __init__(self, *, upstream: bytes, public: bytes) -> None:
        self._upstream = upstream.rstrip(b"/")
        self._public = public.rstrip(b"/")

    @property
    def differ(self) -> bool:
        """Whether there is anything to rewrite at all."""
        return self._upstream != self._public

    def public_path(self, path: bytes) -> bytes:
        """Return the upstream's ``path`` as a client must ask for it.

        A server that knows of its prefix says so itself, and one that names a path outside of its own
        prefix means something that this proxy cannot know: both are left as they are.
        """
        if self._public and _is_below(path, self._public):
            return path
        if not _is_below(path, self._upstream):
            return path
        return self._public + path[len(self._upstream) :]


def _is_below(path: bytes, prefix: bytes) -> bool:
    return path.startswith(prefix + b"/")


class EndpointRewriter:
    """Reads an event stream up to the end of its first event, and hands on everything."""

    def __init__(self, prefixes: PathPrefixes) -> None:
        self._prefixes = prefixes
        self._first: bytes | None = b""

    def feed(self, data: bytes) -> bytes:
        """Return what goes on to the client: nothing, while the first event is not whole."""
        if self._first is None:
            return data
        first = self._first + data
        end = _END.search(first)
        if end is None and len(first) <= MAX_FIRST_EVENT:
            self._first = first
            return b""
        self._first = None
        return first if end is None else self._rewritten(first[: end.end()]) + first[end.end() :]

    def flush(self) -> bytes:
        """Return what is still held back, at the stream's end."""
        held, self._first = self._first or b"", None
        return held

    def _rewritten(self, event: bytes) -> bytes:
        if _ENDPOINT.search(event) is None:
            return event
        return _DATA.sub(lambda match: match[1] + self._prefixes.public_path(match[2]), event, count=1)
