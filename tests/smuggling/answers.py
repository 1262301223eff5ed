"""What a client gets, as a strict client reads it."""

from __future__ import annotations

from collections.abc import Sequence

import h11
from attrs import frozen

Pair = tuple[bytes, bytes]


@frozen
class Received:
    """One whole answer."""

    status: int
    headers: list[Pair]
    body: bytes


def read_answers(data: bytes, methods: Sequence[bytes] = (), *, ended: bool) -> list[Received]:
    """Return the whole answers in ``data``; interim ones are left out.

    ``methods`` are those of the requests, where they are not GET; ``ended`` is whether more may come.

    :raises ValueError: something in it is no HTTP/1.1 answer.
    """
    found: list[Received] = []
    while data:
        method = methods[len(found)] if len(found) < len(methods) else b"GET"
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        client.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        if ended:
            client.receive_data(b"")
        head: h11.Response | None = None
        body = b""
        try:
            while not isinstance(event := client.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Response):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                elif not isinstance(event, h11.InformationalResponse):
                    return found  # the rest has not come yet
        except h11.RemoteProtocolError as error:
            if ended and ("incomplete" in str(error) or "closed" in str(error)):
                return found  # cut
            raise ValueError(f"{error}: {data[:200]!r}") from error
        assert head is not None
        found.append(Received(head.status_code, list(head.headers.raw_items()), body))
        data = client.trailing_data[0]
    return found
