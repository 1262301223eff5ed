"""Headers as they came: ordered pairs, which Twisted's multi-map does not keep."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from twisted.web.http_headers import Headers

from mcp_oauth2_proxy.wire.head import Pairs

#: Header lines of a request that the agent computes: what its caller passes would be a second framing.
_OURS = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"keep-alive",
        b"upgrade",
        b"expect",
        b"te",
    }
)


def begun(start: bytes, pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the request line and ``Host`` in ``start`` with the header lines behind, as they go out.

    Those that the agent computes are left out.

    :raises ValueError: a part of it would break the head.
    """
    lines = [b": ".join(pair) + b"\r\n" for pair in pairs if pair[0].lower() not in _OURS]
    head = start + b"".join(lines)
    ends = len(lines) + 2
    if head.count(b"\r") != ends or head.count(b"\n") != ends or b"\0" in head:
        raise ValueError("the head of the request has a line break or a NUL within a line")
    return head


class RawHeaders(Headers):
    """Twisted's Headers, made from header lines whose order, case and duplicates are kept in :attr:`pairs`.

    An agent that knows only Headers sends the same lines, grouped by name.
    """

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self.pairs: Pairs = list(pairs)
        self._begun = b"", b""

    @cached_property
    def _rawHeaders(self) -> dict[bytes, list[bytes]]:  # type: ignore[override]
        """Twisted's own map, made when somebody looks: an agent that knows :attr:`pairs` does not."""
        headers = Headers()
        for name, value in self.pairs:
            headers.addRawHeader(name, value)
        return headers._rawHeaders

    def begun(self, start: bytes) -> bytes:
        """See :func:`begun`: made once, however many requests it goes out with."""
        if self._begun[0] != start:
            self._begun = start, begun(start, self.pairs)
        return self._begun[1]
