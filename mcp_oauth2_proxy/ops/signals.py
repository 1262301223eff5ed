"""Signals, handed to the event loop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import Any


def on_signals(reactor: Any, numbers: Sequence[int], call: Callable[[], object]) -> None:
    """Call ``call`` in the reactor when one of these signals comes from now on, in place of what they did."""

    def handle(_number: int, _frame: object) -> None:
        reactor.callFromThread(call)

    for number in numbers:
        signal.signal(number, handle)
