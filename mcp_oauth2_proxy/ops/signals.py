"""Signals, handed to the event loop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.error import ReactorNotRunning


def on_signals(reactor: Any, numbers: Sequence[int], call: Callable[[], object]) -> None:
    """Call ``call`` in the reactor when one of these signals comes from now on, in place of what they did."""

    def handle(_number: int, _frame: object) -> None:
        reactor.callFromThread(call)

    for number in numbers:
        signal.signal(number, handle)


def stop_on_signals(reactor: Any) -> None:
    """Have SIGTERM and SIGINT stop the reactor, from when it runs.

    As Twisted's own handlers do, which leave a traceback where the reactor has been told to stop already: a
    service manager signals every process of a service, and one of them tells the others to stop as well.
    """

    def stop() -> None:
        with suppress(ReactorNotRunning):
            reactor.stop()

    reactor.callWhenRunning(on_signals, reactor, [signal.SIGTERM, signal.SIGINT], stop)
