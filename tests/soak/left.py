"""What a process has open and in memory."""

from __future__ import annotations

import gc
import os
from collections import Counter
from typing import Any

#: What lives as long as an exchange or a connection does. Timers are counted by the reactor, which
#: keeps cancelled ones for a while.
_KINDS = frozenset(
    {
        "Answer",
        "BodyReader",
        "ClientConnection",
        "ClientTransport",
        "Deadline",
        "Deferred",
        "Exchange",
        "Line",
        "RequestBody",
        "ResponseBody",
        "Server",
        "Client",
        "ServerChannel",
        "ServerTransport",
        "StreamingRequest",
        "TurnedAway",
        "Upload",
        "WireResponse",
    }
)


def descriptors(pid: int | str = "self") -> int:
    """Return how many file descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory() -> int:
    """Return the resident bytes of this process."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def objects() -> Counter[str]:
    """Return how many there are of each kind that lives as long as an exchange."""
    gc.collect()
    return Counter(name for one in gc.get_objects() if (name := type(one).__name__) in _KINDS)


def timers(reactor: Any) -> int:
    """Return how many timers are set."""
    return len(reactor.getDelayedCalls())
