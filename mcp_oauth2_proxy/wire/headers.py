"""Headers as they came: ordered pairs, which Twisted's multi-map does not keep."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.web.http_headers import Headers

from mcp_oauth2_proxy.wire.head import Pairs


class RawHeaders(Headers):
    """Twisted's Headers, made from header lines whose order, case and duplicates are kept in :attr:`pairs`.

    An agent that knows only Headers sends the same lines, grouped by name.
    """

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__()
        self.pairs: Pairs = list(pairs)
        for name, value in self.pairs:
            self.addRawHeader(name, value)
