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


def joined(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the header lines of a request as they go out, without those that the agent computes.

    :raises ValueError: one of them would break the head.
    """
    lines = [b": ".join(pair) for pair in pairs if pair[0].lower() not in _OURS]
    if not lines:
        return b""
    lines.append(b"")
    text, ends = b"\r\n".join(lines), len(lines) - 1
    if text.count(b"\r") != ends or text.count(b"\n") != ends or b"\0" in text:
        raise ValueError("a header line of the request has a line break or a NUL")
    return text


class RawHeaders(Headers):
    """Twisted's Headers, made from header lines whose order, case and duplicates are kept in :attr:`pairs`.

    An agent that knows only Headers sends the same lines, grouped by name.
    """

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self.pairs: Pairs = list(pairs)

    @cached_property
    def _rawHeaders(self) -> dict[bytes, list[bytes]]:  # type: ignore[override]
        """Twisted's own map, made when somebody looks: an agent that knows :attr:`pairs` does not."""
        headers = Headers()
        for name, value in self.pairs:
            headers.addRawHeader(name, value)
        return headers._rawHeaders

    @cached_property
    def joined(self) -> bytes:
        """See :func:`joined`: made once, however many requests it goes out with."""
        return joined(self.pairs)
