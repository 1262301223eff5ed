"""Judgements of header names, made once for each name and not for each line. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

#: Names that are remembered: clients and servers use a few dozen, strangers may invent more.
MAX_NAMES = 2048
#: Bytes of a name that is remembered; the longest ones in use have some thirty. Names of a whole head's
#: size, a different one each time, would otherwise fill the memory.
MAX_NAME = 64


class _Remembered(dict[bytes, _T]):
    def __init__(self, judge: Callable[[bytes], _T]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, name: bytes) -> _T:
        judgement = self._judge(name)
        if len(name) <= MAX_NAME:
            if len(self) >= MAX_NAMES:
                self.clear()
            self[name] = judgement
        return judgement


def by_name(judge: Callable[[bytes], _T]) -> Callable[[bytes], _T]:
    """Return ``judge``, which depends on the name alone, as a lookup in what it has said before."""
    return _Remembered(judge).__getitem__
