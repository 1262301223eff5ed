"""Both sides of a proxy, recorded as bytes and compared exchange by exchange."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from attrs import define, evolve, frozen
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer

from tests.relay.players import unchunk

Pair = tuple[bytes, bytes]
HEAD_END = b"\r\n\r\n"
#: Lines that belong to one connection, and those that each side computes for a request.
_CONNECTION = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade"})
_REQUESTS_OWN = _CONNECTION | {b"host", b"content-length", b"expect"}
_BODILESS = frozenset({b"204", b"304"})


@define(eq=False)
class Conversation:
    """All bytes of one connection, each way."""

    asked: bytes = b""
    answered: bytes = b""


@frozen
class Message:
    """A request or an answer. ``first`` is its first line."""

    first: bytes
    pairs: tuple[Pair, ...]
    body: bytes
    whole: bool


class _Back(ProxyClient):
    def dataReceived(self, data: bytes) -> None:
        self.peer.conversation.answered += data
        super().dataReceived(data)


class _BackFactory(ProxyClientFactory):
    noisy = False
    protocol = _Back


class _There(ProxyServer):
    clientProtocolFactory = _BackFactory

    def connectionMade(self) -> None:
        self.conversation = Conversation()
        self.factory.conversations.append(self.conversation)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        self.conversation.asked += data
        super().dataReceived(data)


class Tap(ProxyFactory):
    """Forwards connections to a port of 127.0.0.1, and keeps what goes through."""

    noisy = False
    protocol = _There

    def __init__(self, reactor: Any, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.conversations: list[Conversation] = []
        self._port = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self._port.getHost().port}"

    def stop(self) -> Any:
        """Listen no more."""
        return self._port.stopListening()

    def exchanges(self) -> dict[Message, list[Message]]:
        """Return the answers to each request, where it got one."""
        found: dict[Message, list[Message]] = defaultdict(list)
        for conversation in self.conversations:
            asked, answered = conversation.asked, conversation.answered
            while asked:
                request, asked = _take(asked, method=None)
                method = request.first.partition(b" ")[0]
                answer, answered = _take(answered, method=method)
                if answer.first:
                    found[request].append(answer)
        return found


def _take(data: bytes, *, method: bytes | None) -> tuple[Message, bytes]:
    """Return the first message, and what follows; an answer to ``method``, or a request without one."""
    head, mark, rest = data.partition(HEAD_END)
    if method is not None and head.startswith(b"HTTP/1.1 1") and mark:
        return _take(rest, method=method)
    if not mark:
        return Message(b"", (), b"", False), b""
    first, *lines = head.split(b"\r\n")
    # Spaces around a value are not part of it (RFC 9110 section 5.5).
    pairs = [(name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]
    named = {name.lower(): value for name, value in pairs}
    body, whole, size = b"", True, 0
    if method == b"HEAD" or (method is not None and first[9:12] in _BODILESS):
        pass
    elif named.get(b"transfer-encoding") == b"chunked":
        body, whole, size = unchunk(rest)
    elif length := named.get(b"content-length"):
        size = int(length)
        body, whole = rest[:size], len(rest) >= size
    elif method is not None:
        body, size = rest, len(rest)
    own = _CONNECTION if method is not None else _REQUESTS_OWN
    kept = tuple(pair for pair in pairs if pair[0].lower() not in own)
    return Message(first, kept, body, whole), rest[size:]


def differences(outer: Tap, inner: Tap) -> list[str]:
    """Return in what the exchanges before a proxy differ from those behind it."""
    before, behind = outer.exchanges(), inner.exchanges()
    wrong = [
        f"changed on its way: {request} was {[one for one in before if one.body == request.body]}"
        for request in behind
        if request not in before
    ]
    for request, answers in before.items():
        expected = [_as_passed_on(request, answer) for answer in behind.get(request, ())]
        if len(answers) > len(expected):
            wrong.append(f"answered by nobody behind the proxy: {request}, {answers}")
        for answer in answers:
            come = _without_our_own(request, answer)
            if not any(_same(come, other) for other in expected):
                wrong.append(f"{answer} in place of {expected} for {request}")
    return wrong


def _same(come: Message, sent: Message) -> bool:
    """Return whether an answer came as it was sent, as far as it came and as it was recorded."""
    if (come.first, come.pairs) != (sent.first, sent.pairs):
        return False
    if come.whole and sent.whole:
        return come.body == sent.body
    return come.body.startswith(sent.body) or sent.body.startswith(come.body)


def _as_passed_on(request: Message, answer: Message) -> Message:
    """Return an answer as the relay means to change it (docs/fidelity.md)."""
    pairs = list(answer.pairs)
    content_type = next((value for name, value in pairs if name.lower() == b"content-type"), b"")
    if content_type.startswith(b"text/event-stream"):
        pairs = [pair for pair in pairs if pair[0].lower() != b"x-accel-buffering"]
        pairs.append((b"X-Accel-Buffering", b"no"))
    return _without_our_own(request, evolve(answer, pairs=tuple(pairs)))


def _without_our_own(request: Message, answer: Message) -> Message:
    """Return an answer without what the proxy says in its own name: to pages, and of tokens."""
    from_page = any(name.lower() == b"origin" for name, _ in request.pairs)
    about_tokens = answer.first[9:12] in (b"401", b"403")
    pairs = tuple(
        (name, value)
        for name, value in answer.pairs
        if not (from_page and name.lower().startswith(b"access-control-"))
        and not (about_tokens and name.lower() == b"www-authenticate")
    )
    return evolve(answer, pairs=pairs)
