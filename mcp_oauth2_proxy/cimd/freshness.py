"""How long a document may be used without asking again (RFC 9111 sections 4.2 and 5), within our bounds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import parsedate_to_datetime

#: Seconds: for an answer that says nothing, and the least and the most whatever it says. Without a least
#: a document could make every step of a login wait for its host; with no most a mistake would stay.
DEFAULT = 3600.0
LEAST = 300.0
MOST = 86400.0

_DIRECTIVE = re.compile(
    r"(?:^|[,\s])(s-maxage|max-age|no-store|no-cache)(?:\s*=\s*\"?([0-9]{1,10}))?", re.IGNORECASE
)


def lifetime(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """Return for how many seconds an answer with these ``headers`` is fresh."""
    values: dict[bytes, str] = {}
    for name, value in headers:
        key = name.lower()
        text = value.decode("latin-1")
        values[key] = f"{values[key]}, {text}" if key in values else text
    said = _said(values)
    if said is None:
        return DEFAULT
    return min(max(said - _age(values), LEAST), MOST)


def _said(values: dict[bytes, str]) -> float | None:
    directives = {
        match[1].lower(): match[2] for match in _DIRECTIVE.finditer(values.get(b"cache-control", ""))
    }
    if "no-store" in directives or "no-cache" in directives:
        return 0.0
    for name in ("s-maxage", "max-age"):
        if directives.get(name):
            return float(directives[name])
    try:
        expires = parsedate_to_datetime(values[b"expires"])
        return (expires - parsedate_to_datetime(values[b"date"])).total_seconds()
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return None


def _age(values: dict[bytes, str]) -> float:
    age = values.get(b"age", "")
    return float(age) if re.fullmatch(r"[0-9]{1,10}", age) else 0.0
