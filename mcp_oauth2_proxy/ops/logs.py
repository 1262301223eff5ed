"""Where log events go: one stream, one line an event, as text or JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import IO, Any

from twisted.logger import (
    ILogObserver,
    LogBeginner,
    Logger,
    LogLevel,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from mcp_oauth2_proxy.ops.lines import Event, Render, json_line, text_line

#: ``--log-level`` to Twisted's levels, which know nothing beyond critical.
LEVELS = {
    "DEBUG": LogLevel.debug,
    "INFO": LogLevel.info,
    "WARN": LogLevel.warn,
    "ERROR": LogLevel.error,
    "FATAL": LogLevel.critical,
    "PANIC": LogLevel.critical,
}
FORMATS: dict[str, Render] = {"text": text_line, "json": json_line}

#: Bytes that the kernel takes as a whole when several processes write to one pipe (pipe(7), POSIX's is less).
PIPE_BUF = 4096

_RANK = {level: rank for rank, level in enumerate(LogLevel.iterconstants())}
_OWN = "mcp_oauth2_proxy"


@implementer(ILogObserver)
class LineObserver:
    """Writes the events that are at least ``level`` to ``stream``, one line each.

    What libraries say for information (a factory starts, a port closes) counts as debugging here.

    ``soon`` calls a function once the present turn of the event loop is over: lines for information wait
    for that and go out together, one system call for all; whatever is worse goes out at once. Where the
    stream is ``shared`` with other processes, a call has as many whole lines as go out in one piece.
    """

    def __init__(
        self,
        level: Any,
        render: Render,
        stream: IO[str],
        soon: Callable[[Callable[[], None]], object] | None = None,
        *,
        shared: bool = False,
    ) -> None:
        self._shared = shared
        self._rank = _RANK[level]
        self._render = render
        self._stream = stream
        self._soon = soon
        self._lines: list[str] = []

    def __call__(self, event: Event) -> None:
        """Write one event; a stream that is gone (a closed pipe) must not stop the proxy."""
        level = event.get("log_level", LogLevel.info)
        if level is LogLevel.info and not str(event.get("log_namespace", "")).startswith(_OWN):
            level = LogLevel.debug
        if _RANK.get(level, 0) < self._rank:
            return
        self._lines.append(self._render(event))
        if self._soon is None or level is not LogLevel.info:
            self._flush()
        elif len(self._lines) == 1:
            self._soon(self._flush)

    def _flush(self) -> None:
        # Joined here, for a stream may write each line by itself (PYTHONUNBUFFERED, as in many images).
        texts = _pieces(self._lines) if self._shared else ["".join(self._lines)]
        self._lines = []
        with suppress(OSError, ValueError):
            for text in texts:
                self._stream.write(text)
                self._stream.flush()


def _pieces(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines joined, each time as many as fit into ``PIPE_BUF``, and at least one."""
    piece: list[str] = []
    size = 0
    for line in lines:
        length = len(line) if line.isascii() else len(line.encode())
        if piece and size + length > PIPE_BUF:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += length
    yield "".join(piece)


def log_observer(
    level: str,
    format: str,
    stream: IO[str],
    soon: Callable[[Callable[[], None]], object] | None = None,
    *,
    shared: bool = False,
) -> LineObserver:
    """Return the observer for ``log.level`` and ``log.format``: for Twisted's loggers, or for twistd.

    Also sends what the standard library's loggers say (asyncio, treq), from warnings up, the same way.
    """
    _take_over_stdlib()
    return LineObserver(LEVELS[level.upper()], FORMATS[format.lower()], stream, soon, shared=shared)


def configure_logging(
    level: str,
    format: str,
    stream: IO[str],
    *,
    soon: Callable[[Callable[[], None]], object] | None = None,
    worker: int | None = None,
    beginner: LogBeginner = globalLogBeginner,
) -> None:
    """Send all log events of the process to ``stream``; called once, before anything is worth telling.

    ``worker`` is the number of this process among several that log to one place; each line has it.
    """
    observer = log_observer(level, format, stream, soon, shared=worker is not None)

    @implementer(ILogObserver)
    def numbered(event: Event) -> None:
        observer({**event, "worker": worker})

    beginner.beginLoggingTo([observer if worker is None else numbered], redirectStandardIO=False)


class StdlibHandler(logging.Handler):
    """Hands the records of the standard library's loggers to Twisted's."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on one record."""
        log = Logger(namespace=record.name)
        fields: dict[str, object] = {"text": record.getMessage(), "logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields["log_failure"] = Failure(record.exc_info[1])
        if record.levelno >= logging.CRITICAL:
            level = LogLevel.critical
        elif record.levelno >= logging.ERROR:
            level = LogLevel.error
        else:
            level = LogLevel.warn
        log.emit(level, "{text}", **fields)


def _take_over_stdlib() -> None:
    root = logging.getLogger()
    if not any(isinstance(handler, StdlibHandler) for handler in root.handlers):
        root.addHandler(StdlibHandler(logging.WARNING))
