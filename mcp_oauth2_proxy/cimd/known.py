"""What one process knows of documents: a bounded number of good ones, and of those that there are not."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from attrs import frozen

#: Documents that are remembered, good and bad ones apart: a flood of bad URLs drops no good copy.
MAX_DOCUMENTS = 512

_T = TypeVar("_T")


@frozen
class Entry(Generic[_T]):
    """What is known of one URL. Times are seconds since the epoch.

    ``value`` is what the host said at ``said_at`` (0: it never said a word), or a copy that is ``built_in``;
    ``None`` where there is no good document. ``trouble`` came of asking the last time. The host is not asked
    again before ``ask_at``.
    """

    value: _T | None
    said_at: float
    ask_at: float
    trouble: Exception | None = None
    built_in: bool = False

    @property
    def is_good(self) -> bool:
        """Whether its host gave a good document."""
        return self.value is not None and not self.built_in

    def serves(self, now: float, newer_than: float) -> bool:
        """Return whether it answers without asking the host: it is fresh, or was tried just now."""
        return now < self.ask_at and (self.trouble is not None or self.said_at >= newer_than)


class Known(Generic[_T]):
    """The entries that were used last."""

    def __init__(self) -> None:
        self._good: OrderedDict[str, Entry[_T]] = OrderedDict()
        self._bad: OrderedDict[str, Entry[_T]] = OrderedDict()

    def get(self, url: str) -> Entry[_T] | None:
        """Return what is known of ``url``."""
        for entries in (self._good, self._bad):
            if url in entries:
                entries.move_to_end(url)
                return entries[url]
        return None

    def put(self, url: str, entry: Entry[_T]) -> Entry[_T]:
        """Know ``entry`` of ``url`` from now on, in place of what was known; return it."""
        entries, others = (self._good, self._bad) if entry.is_good else (self._bad, self._good)
        others.pop(url, None)
        entries[url] = entry
        entries.move_to_end(url)
        if len(entries) > MAX_DOCUMENTS:
            entries.popitem(last=False)
        return entry
