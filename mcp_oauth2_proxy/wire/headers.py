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
        self.pairs: Pairs = list(pairs)
        self._map: dict[bytes, list[bytes]] | None = None

    @property
    def _rawHeaders(self) -> dict[bytes, list[bytes]]:  # type: ignore[override]
        """Twisted's own map, made when somebody looks: an agent that knows :attr:`pairs` does not."""
        if self._map is None:
            headers = Headers()
            for name, value in self.pairs:
                headers.addRawHeader(name, value)
            self._map = headers._rawHeaders
        return self._map
