"""Event streams with traffic: each event a small write of its own, all the way through."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.errors import WrongAnswer
from bench.traffic import EVENTS, EVENTS_PATH, event

#: Streams at once.
STREAMS = 16
_TIMEOUT = 30.0
_RIGHT = b"".join(event(number) for number in range(EVENTS))


def _one(port: int, token: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    try:
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        connection.request("GET", EVENTS_PATH.decode(), headers=headers)
        answer = connection.getresponse()
        return answer.read() if answer.status == 200 else b""
    except http.client.HTTPException as error:
        raise WrongAnswer(f"an event stream broke: {error!r}") from None
    finally:
        connection.close()


def check(bodies: Sequence[bytes]) -> int:
    """Return how many events came.

    :raises WrongAnswer: a stream has not brought exactly its events, in their order.
    """
    for body in bodies:
        if body != _RIGHT:
            raise WrongAnswer(f"a stream brought {len(body)} bytes that are not its {EVENTS} events")
    return len(bodies) * EVENTS


def run(port: int, token: str) -> int:
    """Read :data:`STREAMS` streams to their end; return how many events came.

    :raises WrongAnswer: see :func:`check`.
    """
    with ThreadPoolExecutor(STREAMS) as pool:
        return check(list(pool.map(lambda _: _one(port, token), range(STREAMS))))
