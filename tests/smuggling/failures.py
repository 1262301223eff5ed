"""All failures of a corpus at once, rather than its first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def failures(check: Callable[..., None], every: Iterable[tuple[Any, ...]]) -> list[str]:
    """Return what ``check(case, ...)`` has to say about every case."""
    found = []
    for arguments in every:
        case = arguments[0]
        try:
            check(*arguments)
        except (AssertionError, ValueError, OSError) as error:
            found.append(f"{case.name} ({case.why}): {error}")
    return found
