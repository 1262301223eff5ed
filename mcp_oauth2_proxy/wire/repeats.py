"""A head that comes again on its connection: byte for byte, or with another length or date. Pure.

It reads as it did before but for the values of the lines that differ by their nature, and only where
these have their usual form: anything else is another head.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Generic, Protocol, Self, TypeVar

from mcp_oauth2_proxy.wire.head import MAX_LENGTH_DIGITS, Pairs

LENGTH, DATE = b"content-length", b"date"
#: The values that may differ, in the one form in which they are read without the parser.
_VALUES = {
    LENGTH: re.compile(rb"[0-9]{1,%d}" % MAX_LENGTH_DIGITS),
    # RFC 9110 section 5.6.7: IMF-fixdate
    DATE: re.compile(rb"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"),
}


class Reading(Protocol):
    """What a head was read as."""

    def repeated(self, changed: Mapping[bytes, bytes]) -> Self:
        """Return what the head comes to where the lines of these names, in lower case, say something else."""


_Reading = TypeVar("_Reading", bound=Reading)


class Repeatable(Generic[_Reading]):
    """The bytes of a head that was accepted and read as ``read``; ``names`` may say something else next time.

    A line that is there twice, or whose value has another form than usual, stays as it is.
    """

    __slots__ = ("_head", "_pieces", "_read", "_rest", "_values")

    def __init__(self, head: bytes, read: _Reading, names: Collection[bytes]) -> None:
        self._head = head
        self._read = read
        lowered = head.lower()
        places = sorted(place for name in names if (place := _place(head, lowered, name)) is not None)
        #: What stands before each value of ``names``, and whose it is; the values; and what is behind them.
        self._pieces: list[tuple[bytes, bytes]] = []
        self._values: list[bytes] = []
        seen = 0
        for begin, end, name in places:
            self._pieces.append((head[seen:begin], name))
            self._values.append(head[begin:end])
            seen = end
        self._rest = head[seen:] if places else b""

    def again(self, data: bytes, start: int) -> tuple[_Reading, int] | None:
        """Return what the head at ``start`` is read as, and where it ends; ``None`` for another one."""
        if data.startswith(self._head, start):
            return self._read, start + len(self._head)
        return self._with_other_values(data, start) if self._pieces else None

    def _with_other_values(self, data: bytes, start: int) -> tuple[_Reading, int] | None:
        values, changed, at = [], {}, start
        for (piece, name), known in zip(self._pieces, self._values, strict=True):
            if not data.startswith(piece, at):
                return None
            found = _VALUES[name].match(data, at + len(piece))
            if found is None:
                return None
            value, at = found[0], found.end()
            values.append(value)
            if value != known:
                changed[name] = value
        # It begins with the end of a line: there is no more to the last value.
        if not data.startswith(self._rest, at):
            return None
        end = at + len(self._rest)
        self._head, self._values = data[start:end], values
        self._read = self._read.repeated(changed)
        return self._read, end


def replaced(pairs: Pairs, changed: Mapping[bytes, bytes]) -> Pairs:
    """Return header lines of which those of the names in ``changed``, in lower case, say that."""
    return [(name, changed.get(name.lower(), value)) for name, value in pairs]


def _place(head: bytes, lowered: bytes, name: bytes) -> tuple[int, int, bytes] | None:
    """Return where the value of the line ``name`` begins and ends, and the name."""
    line = b"\r\n%b:" % name
    if lowered.count(line) != 1:
        return None
    start = lowered.find(line) + len(line) + 1
    value = _VALUES[name].match(head, start)
    if value is None or head[start - 1 : start] != b" " or not head.startswith(b"\r\n", value.end()):
        return None
    return start, value.end(), name
