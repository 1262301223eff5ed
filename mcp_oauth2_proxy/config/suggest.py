"""What the operator may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, accepted: Iterable[str]) -> str:
    """Return ``" (did you mean X?)"`` for the nearest of ``accepted``, or nothing."""
    by_lower = {candidate.lower(): candidate for candidate in accepted}
    close = get_close_matches(word.lower()[:100], by_lower, n=1, cutoff=0.6)
    return f" (did you mean {by_lower[close[0]]}?)" if close else ""
