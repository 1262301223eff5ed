"""How an answer's end is marked. One framing goes out, and it is always computed here. Pure."""

from __future__ import annotations

from functools import lru_cache

from attrs import frozen
from twisted.web.http import RESPONSES

from mcp_oauth2_proxy.wire.head import Pairs
from mcp_oauth2_proxy.wire.names import by_name

#: Header lines that belong to one connection: whoever asks for them, they are ours to write.
_OURS = frozenset({b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"trailer"})
_NO_BODY = frozenset({204, 304})
#: Longest reason phrase in bytes that is passed on: the status lines made last are remembered.
MAX_PHRASE = 256


@by_name
def _passes(name: bytes) -> bool:
    """Return whether a header line of that name goes out without a look at it."""
    lowered = name.lower()
    return lowered not in _OURS and lowered != b"date"


@lru_cache(maxsize=256)
def _status_line(code: int, phrase: bytes) -> bytes:
    known = phrase if phrase and not _breaks(phrase) else RESPONSES.get(code, b"Unknown")
    return b"HTTP/1.1 %d %b\r\n" % (code, known)


class Framing:
    """The body of one answer: ``length`` bytes, or chunks, or whatever comes until the connection closes."""

    __slots__ = ("_chunked", "_left", "closes", "has_body")

    def __init__(self, *, has_body: bool, length: int | None, chunked: bool, closes: bool) -> None:
        self.has_body = has_body
        self.closes = closes
        self._left = length
        self._chunked = chunked

    def frame(self, data: bytes) -> bytes:
        """Return ``data`` as it goes out; what exceeds a declared length is dropped, and told by complete."""
        if not self.has_body or not data:
            return b""
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(data), data)
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                return b""
        return data

    def complete(self) -> bool:
        """Whether as much was written as was declared."""
        return not self.has_body or self._left is None or self._left == 0

    def last(self) -> bytes:
        """Return what marks the end."""
        return b"0\r\n\r\n" if self.has_body and self._chunked else b""


@frozen
class Lines:
    """Header lines of an answer, ready to go out: those before the place of its length, and those behind."""

    before: bytes
    behind: bytes
    length: int | None
    #: ``Content-Length`` as it was written.
    length_name: bytes
    #: Where the value of ``Date`` begins in the two of them, if there is one.
    date_at: int | None

    def with_length(self, length: int) -> Lines:
        """Return the lines of an answer that has another length."""
        return Lines(self.before, self.behind, length, self.length_name, self.date_at)

    def with_date(self, date: bytes) -> Lines:
        """Return the lines of an answer with another date, of the same size: all usual ones have the same."""
        before, behind, at = self.before, self.behind, self.date_at
        if at is None:
            return self
        if at < len(before):
            before = _with_value(before, at, date)
        else:
            behind = _with_value(behind, at - len(before), date)
        return Lines(before, behind, self.length, self.length_name, at)


def ready(pairs: Pairs) -> Lines:
    """Return header lines in their order, without those that are ours to write.

    The length is taken from a single valid Content-Length. A line that would break the head (CR, LF, NUL)
    is left out.
    """
    lines: list[bytes] = []
    lengths: list[bytes] = []
    length_name, length_at = b"Content-Length", 0
    date_at: int | None = None
    for pair in pairs:
        if not _passes(pair[0]):
            name = pair[0].lower()
            if name == b"content-length":
                lengths.append(pair[1])
                length_name, length_at = pair[0], len(lines)
            if name in _OURS:
                continue
            date_at = len(_joined(lines)) + len(pair[0]) + 2
        lines.append(b": ".join(pair))
    if _breaks(b"".join(lines)):
        return ready([pair for pair in pairs if not _breaks(b"".join(pair))])
    length = int(lengths[0]) if len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) < 19 else None
    return Lines(_joined(lines[:length_at]), _joined(lines[length_at:]), length, length_name, date_at)


def _with_value(lines: bytes, at: int, value: bytes) -> bytes:
    return lines[:at] + value + lines[at + len(value) :]


def _joined(lines: list[bytes]) -> bytes:
    return b"".join([line + b"\r\n" for line in lines])


def response_head(
    *,
    method: bytes,
    version: bytes,
    code: int,
    phrase: bytes,
    pairs: Pairs | Lines,
    keep_alive: bool,
    date: bytes,
) -> tuple[bytes, Framing]:
    """Return the head's bytes and the framing that it announces. For the header lines see :func:`ready`."""
    lines = pairs if isinstance(pairs, Lines) else ready(pairs)
    length = lines.length
    has_body = method != b"HEAD" and code not in _NO_BODY
    chunked = has_body and length is None and version == b"HTTP/1.1"
    closes = not keep_alive or (has_body and length is None and not chunked)
    head = [_status_line(code, phrase if len(phrase) <= MAX_PHRASE else b""), lines.before]
    if length is not None and code != 204:
        head.append(b"%b: %d\r\n" % (lines.length_name, length))
    head.append(lines.behind)
    if lines.date_at is None:
        head.append(b"Date: %b\r\n" % date)
    if chunked:
        head.append(b"Transfer-Encoding: chunked\r\n")
    if closes:
        head.append(b"Connection: close\r\n")
    elif version == b"HTTP/1.0":
        head.append(b"Connection: keep-alive\r\n")
    head.append(b"\r\n")
    return b"".join(head), Framing(has_body=has_body, length=length, chunked=chunked, closes=closes)


def _breaks(text: bytes) -> bool:
    """Return whether ``text`` would break a head that it stands in."""
    return b"\r" in text or b"\n" in text or b"\0" in text
