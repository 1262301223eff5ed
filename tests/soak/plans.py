"""What each exchange of the traffic is to be: drawn from a seed, known to the client and to the upstream."""

from __future__ import annotations

from random import Random

from attrs import frozen

from tests.relay.players import chunked, pattern

#: What an upstream does with a request, and how often. The first ones answer as they should.
_UPSTREAM = {
    "length": 30,
    "chunked": 20,
    "events": 10,
    "empty": 8,
    "until-close": 5,
    "silent-close": 5,  # answers, and closes without having said so
    "early": 5,  # answers before the body has come
    "half": 3,  # answers, and ends its half
    "reset": 3,
    "close": 3,
    "junk": 3,
    "reset-within": 3,  # in the middle of its answer
    "close-within": 3,
    "stall": 2,
}
#: What a client does, and how often.
_CLIENT = {
    "read": 70,
    "slow": 10,
    "pieces": 8,
    "pipeline": 5,
    "leave-asking": 3,  # in the middle of its request
    "leave-waiting": 3,
    "leave-reading": 3,
    "half-close": 2,
}
#: Those of them that never learn what came.
LEAVING = frozenset({"leave-asking", "leave-waiting", "leave-reading", "half-close"})
#: What becomes of an exchange that its client waits for.
_BAD_GATEWAY = frozenset({"reset", "close", "junk"})
_CUT = frozenset({"reset-within", "close-within"})


@frozen
class Plan:
    """One exchange."""

    number: int
    method: bytes
    size: int
    framing: str
    upstream: str
    client: str
    answer_size: int

    @property
    def leaves(self) -> bool:
        """Whether the client does not wait for the end."""
        return self.client in LEAVING or self.upstream == "stall"

    @property
    def outcome(self) -> str:
        """``whole``, ``bad gateway`` or ``cut``."""
        if self.upstream in _BAD_GATEWAY:
            return "bad gateway"
        return "cut" if self.upstream in _CUT else "whole"

    @property
    def body(self) -> bytes:
        """The request's body."""
        return pattern("q", self.number, self.size)

    @property
    def answer(self) -> bytes:
        """The answer's body."""
        return b"" if self.upstream == "empty" else pattern("a", self.number, self.answer_size)

    def request(self, authorization: bytes) -> bytes:
        """Return the request's bytes."""
        lines = [
            self.method + b" /mcp HTTP/1.1",
            b"Host: mcp.example",
            authorization,
            b"X-Plan: %d" % self.number,
        ]
        body = self.body
        if self.framing == "length":
            lines.append(b"Content-Length: %d" % len(body))
        elif self.framing == "chunked":
            lines.append(b"Transfer-Encoding: chunked")
            body = chunked(body) + b"0\r\n\r\n"
        return b"\r\n".join([*lines, b"", body])

    def response(self) -> bytes:
        """Return the bytes of the answer, as it should be."""
        if self.upstream == "empty":
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        lines, body = [b"HTTP/1.1 200 OK"], self.answer
        if self.upstream in ("chunked", "events"):
            lines.append(b"Transfer-Encoding: chunked")
            body = chunked(body) + b"0\r\n\r\n"
        elif self.upstream != "until-close":
            lines.append(b"Content-Length: %d" % len(body))
        if self.upstream == "events":
            lines.append(b"Content-Type: text/event-stream")
        return b"\r\n".join([*lines, b"", body])


def draw(random: Random, number: int) -> Plan:
    """Return the plan of exchange ``number``."""
    method = random.choice((b"POST", b"POST", b"POST", b"GET", b"DELETE"))
    sizes = (0, 20, 100, 700, 3000, 200_000)
    framing = random.choice(("length", "length", "chunked")) if method == b"POST" else "none"
    return Plan(
        number=number,
        method=method,
        size=random.choices(sizes, (1, 10, 10, 5, 5, 1))[0] if framing != "none" else 0,
        framing=framing,
        upstream=random.choices(list(_UPSTREAM), list(_UPSTREAM.values()))[0],
        client=random.choices(list(_CLIENT), list(_CLIENT.values()))[0],
        # What breaks off within has a middle.
        answer_size=random.choices(sizes[1:], (10, 10, 5, 5, 1))[0],
    )
