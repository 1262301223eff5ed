"""What a second Ctrl-C means."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any


def on_next_signal(reactor: Any, call: Callable[[], object]) -> None:
    """Call ``call`` in the reactor when SIGTERM or SIGINT comes from now on, in place of what they did."""

    def handle(_number: int, _frame: object) -> None:
        reactor.callFromThread(call)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
