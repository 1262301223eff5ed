"""A log event as one line, for people (text) or for machines (JSON). Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from string import Formatter
from typing import Any

from twisted.logger import LogLevel, formatEvent
from twisted.python.failure import Failure

from mcp_oauth2_proxy.ops.redaction import redact, redact_value, suspicious

#: Characters of one field, of the message and of a traceback; what is longer is cut and says so.
MAX_FIELD = 1024
MAX_MESSAGE = 4096
MAX_TRACEBACK = 16384

#: What the levels are called, here as in ``--log-level``.
NAMES = {
    LogLevel.debug: "DEBUG",
    LogLevel.info: "INFO",
    LogLevel.warn: "WARN",
    LogLevel.error: "ERROR",
    LogLevel.critical: "FATAL",
}
#: Keys that Twisted's legacy logging puts into events, and that are nobody's fields.
_LEGACY = frozenset({"time", "message", "format", "system", "isError", "failure", "why", "log", "logLevel"})

#: A field's text that needs no quotes: printable ASCII without blank, quote, backslash and equals sign.
_BARE = re.compile(r"[!#-<>-\[\]-~]+")

Event = Mapping[str, Any]
Render = Callable[[Event], str]


def text_line(event: Event) -> str:
    """Return ``event`` as ``time LEVEL message key=value …``, with a traceback indented below it.

    A field that the message already tells is not told twice. An event that there are many of may have a
    quicker way to the same text, its ``log_text``: called with the event, it returns what follows the level,
    or ``None`` where it has to be written the long way.
    """
    quick = event.get("log_text")
    text = None if quick is None else quick(event)
    if text is not None:
        return f"{_timestamp(event)} {_level(event):5} {text}\n"
    template = event.get("log_format")
    told = _named_in(template) if isinstance(template, str) else frozenset()
    parts = [_timestamp(event), f"{_level(event):5}", _one_line(_message(event))]
    for key, value in event.items():
        if value is not None and _is_field(key) and key not in told:
            parts.append(f"{key}={_text_value(value)}")
    line = redact(" ".join(parts))
    traceback = _traceback(event)
    if traceback:
        indented = "\n".join("    " + _one_line(frame) for frame in redact(traceback).splitlines())
        line = f"{line}\n{indented}"
    return line + "\n"


def json_line(event: Event) -> str:
    """Return ``event`` as one JSON object: ``ts``, ``level``, ``message``, then its fields."""
    record: dict[str, Any] = {"ts": _timestamp(event), "level": _level(event), "message": _message(event)}
    for key, value in event.items():
        if value is not None and _is_field(key):
            record.setdefault(key, _json_value(value))
    traceback = _traceback(event)
    if traceback:
        record["traceback"] = traceback
    line = json.dumps(record)
    if suspicious(line):
        # Value by value: masking the line could break its syntax.
        line = json.dumps(
            {
                key: redact_value(key, value) if isinstance(value, str) else value
                for key, value in record.items()
            }
        )
    return line + "\n"


@lru_cache(maxsize=512)
def is_plain(value: object) -> bool:
    """Return whether a field's text stands in a line as it is: nothing to quote, to cut or to mask."""
    return (
        isinstance(value, str)
        and len(value) <= MAX_FIELD
        and _BARE.fullmatch(value) is not None
        and not suspicious(f" {value} ")
    )


def _timestamp(event: Event) -> str:
    """Return the event's time in ISO 8601, UTC, to the millisecond."""
    moment = event.get("log_time", 0.0)
    return f"{_second(int(moment))}.{int(moment % 1 * 1000):03}Z"


@lru_cache(maxsize=4)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _level(event: Event) -> str:
    return NAMES.get(event.get("log_level", LogLevel.info), "INFO")


def _message(event: Event) -> str:
    template = event.get("log_format")
    # A message without a brace is its own text: formatting is the dearest step of a line.
    plain = isinstance(template, str) and "{" not in template and "}" not in template
    message = str(template) if plain else formatEvent(dict(event))
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        message = f"{message}: {type(failure.value).__name__}: {failure.getErrorMessage()}"
    return _cut(message, MAX_MESSAGE)


@lru_cache(maxsize=512)
def _is_field(key: str) -> bool:
    """Return whether an event's key is a field, rather than how the event describes itself."""
    return not key.startswith("log_") and key not in _LEGACY


@lru_cache(maxsize=512)
def _named_in(template: str) -> frozenset[str]:
    """Return the fields that a message's template shows."""
    try:
        names = [name for _, name, _, _ in Formatter().parse(template) if name]
    except ValueError:
        return frozenset()
    return frozenset(name.partition(".")[0].partition("[")[0].removesuffix("()") for name in names)


def _traceback(event: Event) -> str:
    failure = event.get("log_failure")
    return _cut(failure.getTraceback(), MAX_TRACEBACK) if isinstance(failure, Failure) else ""


def _json_value(value: Any) -> Any:
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # JSON knows neither infinity nor NaN
    return _shown(value)


def _text_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = _shown(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


def _shown(value: Any) -> str:
    if not isinstance(value, str):
        try:
            value = str(value)
        except Exception:  # a broken __str__ must not take the log down
            value = f"<{type(value).__name__}>"
    return _cut(value, MAX_FIELD)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _one_line(text: str) -> str:
    """Return ``text`` with everything escaped that could begin a line or change how one looks."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
