"""Durations as Go writes them (``time.ParseDuration``): ``1h30m``, ``250ms``, ``0s``."""

from __future__ import annotations

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = r"(\d{1,12}(?:\.\d{0,9})?|\.\d{1,9})(ns|us|µs|μs|ms|s|m|h)"
_PARTS = re.compile(_PART)
_WHOLE = re.compile(f"(?:{_PART})+")

#: The pattern as JSON Schema writes it.
PATTERN = r"^(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)$"


def parse_duration(text: str) -> float:
    """Return seconds.

    :raises ValueError: not a duration; negative ones are not accepted either.
    """
    if text == "0":
        return 0.0
    if len(text) > 100 or _WHOLE.fullmatch(text) is None:
        raise ValueError("is not a duration; expected for example 30s, 1h30m, 250ms or 0s")
    return sum(float(number) * _UNITS[unit] for number, unit in _PARTS.findall(text))


def format_duration(seconds: float) -> str:
    """Return ``seconds`` as Go prints a duration, without units that are zero."""
    if seconds == 0:
        return "0s"
    if seconds < 1:
        milliseconds = seconds * 1e3
        return f"{milliseconds:.12g}ms" if milliseconds >= 1 else f"{seconds * 1e9:.12g}ns"
    hours, rest = divmod(round(seconds, 9), 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "m"), (round(rest, 9), "s")]
    return "".join(f"{value:.12g}{unit}" for value, unit in parts if value)
