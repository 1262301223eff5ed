"""HTTP/1.1 as the corpus has it, written down once more as a grammar (RFC 9112, RFC 9110 section 5).

It is stricter than h11, which takes bare LF, folded lines and lists of lengths, and shares nothing with the
product but the RFCs: what the product accepts must be in it.
"""

from __future__ import annotations

import re

from attrs import define

Pair = tuple[bytes, bytes]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_LINES = rb"((?:%s:%s\r\n)*)\r\n" % (_TOKEN, _TEXT)
_REQUEST = re.compile(rb"(?:\r\n)?([A-Z-]+) ([\x21-\x7e]+) HTTP/1\.([01])\r\n%s" % _LINES)
_ANSWER = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: %s)?\r\n%s" % (_TEXT, _LINES))
#: An extension is ignored (RFC 9112 section 7.1.1), so its name or value may be empty, or the value a token
#: and a quoted string in one: wherever they end, the line ends in the same place.
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:;(?!\r)(?:%s)?(?:=(?:%s)?(?:%s)?)?)*\r\n" % (_TOKEN, _TOKEN, _QUOTED))
_TRAILERS = re.compile(_LINES)
_HOST = re.compile(rb"(?:[\w.~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?", re.ASCII)
_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)(?:[/?][^#]*)?", re.IGNORECASE)
_ONCE = (b"host", b"content-length", b"transfer-encoding", b"authorization", b"expect")
_FRAMING = (b"content-length", b"transfer-encoding")


@define
class Message:
    """A message as somebody read it. ``whole`` is whether its end was seen."""

    start: tuple[bytes, ...]
    pairs: list[Pair]
    body: bytes = b""
    whole: bool = False


def requests(data: bytes) -> list[Message]:
    """Return the requests in ``data``, up to the first that is none or not whole."""
    found: list[Message] = []
    at = 0
    while match := _REQUEST.match(data, at):
        method, target, minor, lines = match.groups()
        message = Message((method, target), _pairs(lines))
        if not (
            _is_request(method, minor, message.pairs)
            and _is_target(method, target, message.pairs)
            and _framed(message.pairs, minor)
        ):
            break
        found.append(message)
        end = _body(message, data, match.end())
        if end is None:
            break
        at = end
    return found


def answer(method: bytes, data: bytes, *, hangs_up: bool) -> list[Message]:
    """Return the answer in ``data`` to a request made with ``method``, if there is one."""
    at = 0
    while match := _ANSWER.match(data, at):
        minor, code, lines = match.groups()
        at = match.end()
        if code == b"101":
            break
        message = Message((code,), _pairs(lines))
        if code < b"200":
            if {value for name in _FRAMING for value in _values(message.pairs, name)} - {b"0"}:
                break
            continue
        if not _framed(message.pairs, minor):
            break
        if method == b"HEAD" or code in (b"204", b"304"):
            message.whole = True
        elif any(name.lower() in _FRAMING for name, _ in message.pairs):
            _body(message, data, at)
        else:
            message.body, message.whole = data[at:], hangs_up
        return [message]
    return []


def _pairs(lines: bytes) -> list[Pair]:
    cut = (line.partition(b":") for line in lines.split(b"\r\n")[:-1])
    return [(name, value.strip(b" \t")) for name, _, value in cut]


def _values(pairs: list[Pair], name: bytes) -> list[bytes]:
    return [value for other, value in pairs if other.lower() == name]


def _is_request(method: bytes, minor: bytes, pairs: list[Pair]) -> bool:
    hosts = _values(pairs, b"host")
    return (
        method not in (b"CONNECT", b"TRACE")
        and all(len(_values(pairs, name)) <= 1 for name in _ONCE)
        and (bool(hosts) or minor == b"0")
        and all(_HOST.fullmatch(host) for host in hosts)
        and all(value.lower() in (b"", b"100-continue") for value in _values(pairs, b"expect"))
    )


def _is_target(method: bytes, target: bytes, pairs: list[Pair]) -> bool:
    if target.startswith(b"/"):
        return b"#" not in target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        return (method, target) == (b"OPTIONS", b"*")
    return [absolute[1].lower()] == [host.lower() for host in _values(pairs, b"host")]


def _framed(pairs: list[Pair], minor: bytes) -> bool:
    """Whether a head leaves no doubt about where its body ends (RFC 9112 section 6.3)."""
    lengths, codings = (_values(pairs, name) for name in _FRAMING)
    if codings:
        return minor == b"1" and not lengths and [value.lower() for value in codings] == [b"chunked"]
    return not lengths or (len(lengths) == 1 and re.fullmatch(rb"[0-9]{1,18}", lengths[0]) is not None)


def _body(message: Message, data: bytes, at: int) -> int | None:
    """Read a body from ``at``; return where it ends, or ``None`` where it does not."""
    if not _values(message.pairs, b"transfer-encoding"):
        length = int((_values(message.pairs, b"content-length") or [b"0"])[0])
        message.body = data[at : at + length]
        message.whole = len(message.body) == length
        return at + length if message.whole else None
    while match := _CHUNK.match(data, at):
        size = int(match[1], 16)
        at = match.end()
        if size == 0:
            end = _TRAILERS.match(data, at)
            if end is None or any(name.lower() in _FRAMING for name, _ in _pairs(end[1])):
                return None
            message.whole = True
            return end.end()
        message.body += data[at : at + size]
        at += size
        if data[at : at + 2] != b"\r\n":
            return None
        at += 2
    return None
