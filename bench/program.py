"""How the bench's commands end: with everything stopped and removed, whatever ends them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn


def _terminated(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Call ``main`` with the command line's arguments and end with what it returns, 130 after Ctrl-C."""
    signal.signal(signal.SIGTERM, _terminated)  # unwinds like Ctrl-C
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
