"""Where a chunked body ends (RFC 9112 section 7.1). Pure."""

from __future__ import annotations

import re

#: What ends a head, and a chunked body.
EMPTY_LINE = b"\r\n\r\n"
_SIZE = re.compile(rb"[0-9A-Fa-f]+")


def empty_line(before: bytes, data: bytes, start: int) -> int:
    """Return where the first empty line in ``data`` from ``start`` ends, or where ``data`` does.

    ``before`` are the up to three bytes that were parsed last: the empty line may have begun in them.
    """
    if before and (at := (before + data[start : start + 3]).find(EMPTY_LINE)) >= 0:
        return start + at + len(EMPTY_LINE) - len(before)
    at = data.find(EMPTY_LINE, start)
    return len(data) if at < 0 else at + len(EMPTY_LINE)


class Chunks:
    """Follows one body from chunk to chunk, so that a parser can be stopped at its end.

    It judges nothing: what is no size to it, or none to a strict parser, that parser refuses. Looking for
    empty lines alone would do, but a body that consists of them would cost a thousand times its due.
    """

    __slots__ = ("_left", "_line", "_tail", "last")

    def __init__(self) -> None:
        #: Bytes that are still to come of the present chunk and its line break.
        self._left = 0
        #: The line with the next size, as far as it has come.
        self._line = b""
        #: The last bytes behind the last size, which the empty line may have begun with.
        self._tail = b""
        #: Whether the last chunk has begun: the one of no size.
        self.last = False

    def follow(self, data: bytes, start: int) -> int:
        """Take ``data`` from ``start``; return where the body ends in it, or where ``data`` does."""
        at, size = start, len(data)
        while not self.last:
            if self._left >= size - at:
                self._left -= size - at
                return size
            at += self._left
            self._left = 0
            end = data.find(b"\n", at) + 1
            if not end:
                self._line += data[at:]
                return size
            line, self._line, at = self._line + data[at:end], b"", end
            digits = _SIZE.match(line)
            if digits is None:
                return at
            length = int(digits[0], 16)
            if length:
                self._left = length + 2
            else:
                self.last, self._tail = True, line[-2:]
        end = empty_line(self._tail, data, at)
        self._tail = (self._tail + data[at:end])[-3:]
        return end
