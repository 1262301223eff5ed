"""What a process has open and in memory."""

from __future__ import annotations

import gc
import os
from collections import Counter
from typing import Any

#: What lives as long as an exchange or a connection does.
_KINDS = frozenset(
    {
        "Answer",
        "BodyReader",
        "ClientConnection",
        "ClientTransport",
        "Deadline",
        "Deferred",
        "DelayedCall",
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


def objects() -> Counter[str]:
    """Return how many there are of each kind that lives as long as an exchange."""
    gc.collect()
    return Counter(name for one in gc.get_objects() if (name := type(one).__name__) in _KINDS)


def timers(reactor: Any) -> int:
    """Return how many timers are set."""
    return len(reactor.getDelayedCalls())
