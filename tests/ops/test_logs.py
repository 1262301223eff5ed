"""Log lines: one an event, nothing forged into them, no secret in them."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable
from io import StringIO

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.protocol import Factory
from twisted.logger import (
    ILogObserver,
    LogBeginner,
    Logger,
    LogLevel,
    LogPublisher,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mcp_oauth2_proxy.ops.logs import LEVELS, PIPE_BUF, LineObserver, configure_logging, log_observer
from mcp_oauth2_proxy.ops.redaction import MASK, redact

OWN = "mcp_oauth2_proxy.tests"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


def logged(level: str = "DEBUG", format: str = "text") -> tuple[Logger, StringIO]:
    """Return a logger and the stream its lines go to."""
    stream = StringIO()
    return Logger(OWN, observer=log_observer(level, format, stream)), stream


def failure(error: Exception | None = None) -> Failure:
    """Return a failure with a traceback."""
    try:
        fail(error or RuntimeError("broken\nINFO forged"))
    except Exception:
        return Failure()
    raise AssertionError


def fail(error: Exception) -> None:
    raise error


class Text(SynchronousTestCase):
    """``log.format: text``."""

    def test_one_line_with_what_the_message_does_not_tell(self) -> None:
        """Time, level, message, then the fields that the message has not shown already."""
        log, stream = logged()
        log.emit(LogLevel.warn, "lost {peer}", peer="10.0.0.1", after=1.5, whole=False, name="a b", none=None)
        time, rest = stream.getvalue().split(" ", 1)
        self.assertRegex(time, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(rest, 'WARN  lost 10.0.0.1 after=1.5 whole=false name="a b"\n')

    def test_a_line_cannot_be_forged(self) -> None:
        """Line breaks, escape sequences and direction marks of a stranger show as what they are."""
        log, stream = logged()
        log.info("hello {name}", name="x\n2026-01-01 INFO forged\x1b[31m\u202e")
        log.info("hello", name='y\r\n" level=FATAL')
        self.assertEqual(len(stream.getvalue().splitlines()), 2)
        self.assertTrue(stream.getvalue().isascii())
        self.assertIn(r'name="y\r\n\" level=FATAL"', stream.getvalue())

    def test_a_traceback_is_indented(self) -> None:
        """An unexpected failure shows where, below its line, and cannot look like other lines."""
        log, stream = logged()
        log.failure("relaying failed", failure())
        first, *below = stream.getvalue().splitlines()
        self.assertIn(r"FATAL relaying failed: RuntimeError: broken\nINFO forged", first)
        self.assertTrue(below)
        self.assertTrue(all(line.startswith("    ") for line in below))

    def test_long_values_are_cut(self) -> None:
        """A stranger cannot fill the disk with one line."""
        log, stream = logged()
        log.info("hello", name="a" * 100_000)
        self.assertLess(len(stream.getvalue()), 2000)
        self.assertIn("(100000 characters)", stream.getvalue())

    @given(st.text(), st.dictionaries(st.sampled_from(["a", "b", "subject"]), st.text() | st.floats()))
    def test_always_one_line(self, message: str, fields: dict[str, object]) -> None:
        """Whatever is logged, an event is one line of text."""
        log, stream = logged()
        log.emit(LogLevel.info, "{message_}", message_=message, **fields)
        self.assertEqual(stream.getvalue().count("\n"), 1)
        self.assertEqual(len(stream.getvalue().splitlines()), 1)


class Json(SynchronousTestCase):
    """``log.format: json``."""

    def test_one_object_a_line(self) -> None:
        """``ts``, ``level``, ``message``, then the fields with their types."""
        log, stream = logged(format="json")
        log.info(
            "hello {name}", name="a\nb", status=200, ms=1.5, ok=True, odd=float("nan"), it=ValueError("x")
        )
        record = json.loads(stream.getvalue())
        self.assertRegex(record.pop("ts"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(
            record,
            {
                "level": "INFO",
                "message": "hello a\nb",
                "name": "a\nb",
                "status": 200,
                "ms": 1.5,
                "ok": True,
                "odd": "nan",
                "it": "x",
            },
        )

    def test_a_field_cannot_pose_as_the_level(self) -> None:
        """A field of a reserved name does not replace what the line itself says."""
        stream = StringIO()
        event = {"log_level": LogLevel.warn, "log_format": "hello", "level": "DEBUG", "ts": "never"}
        log_observer("INFO", "json", stream)(event)
        record = json.loads(stream.getvalue())
        self.assertEqual((record["level"], record["message"]), ("WARN", "hello"))
        self.assertNotEqual(record["ts"], "never")

    def test_a_traceback_stays_in_the_line(self) -> None:
        """An unexpected failure is one object too."""
        log, stream = logged(format="json")
        log.failure("relaying failed", failure())
        record = json.loads(stream.getvalue())
        self.assertIn("RuntimeError", record["traceback"])
        self.assertEqual(record["level"], "FATAL")

    @given(
        st.text(),
        st.dictionaries(st.sampled_from(["a", "token", "code"]), st.text() | st.floats() | st.integers()),
    )
    def test_always_one_object(self, message: str, fields: dict[str, object]) -> None:
        """Whatever is logged, a line is one JSON object."""
        log, stream = logged(format="json")
        log.emit(LogLevel.info, "{message_}", message_=message, **fields)
        self.assertEqual(stream.getvalue().count("\n"), 1)
        self.assertIsInstance(json.loads(stream.getvalue()), dict)


class Levels(SynchronousTestCase):
    """``log.level``."""

    def test_each_level_shows_itself_and_what_is_worse(self) -> None:
        """FATAL and PANIC show only what stops the proxy."""
        for level, expected in (
            ("DEBUG", ["debug", "info", "warn", "error", "critical"]),
            ("INFO", ["info", "warn", "error", "critical"]),
            ("WARN", ["warn", "error", "critical"]),
            ("ERROR", ["error", "critical"]),
            ("FATAL", ["critical"]),
            ("PANIC", ["critical"]),
            ("warn", ["warn", "error", "critical"]),
        ):
            log, stream = logged(level)
            for name in LogLevel.iterconstants():
                log.emit(name, name.name)
            self.assertEqual([line.split()[2] for line in stream.getvalue().splitlines()], expected, level)
        self.assertEqual(set(LEVELS), {"DEBUG", "INFO", "WARN", "ERROR", "FATAL", "PANIC"})

    def test_chatter_of_libraries_is_debugging(self) -> None:
        """Nobody reads "Starting factory" unless they debug."""
        for level, lines in (("INFO", 0), ("DEBUG", 1)):
            stream = StringIO()
            observer = log_observer(level, "text", stream)
            globalLogPublisher.addObserver(observer)
            factory = Factory()
            factory.doStart()
            globalLogPublisher.removeObserver(observer)
            factory.noisy = False
            factory.doStop()
            self.assertEqual(len(stream.getvalue().splitlines()), lines)


class Wiring(SynchronousTestCase):
    """How the observer gets its events."""

    def test_configure(self) -> None:
        """After the call, what any logger says is in the stream."""
        stream, publisher = StringIO(), LogPublisher()
        beginner = LogBeginner(publisher, StringIO(), sys, warnings)
        configure_logging("INFO", "json", stream, beginner=beginner)
        Logger(OWN, observer=publisher).info("started")
        self.assertEqual(json.loads(stream.getvalue().splitlines()[-1])["message"], "started")

    def test_one_system_call_for_a_turn(self) -> None:
        """Lines for information wait for the turn's end, together; what is worse never waits."""
        flushed: list[str] = []
        later: list[Callable[[], None]] = []

        class Stream(StringIO):
            def flush(self) -> None:
                flushed.append(self.getvalue())

        log = Logger(OWN, observer=log_observer("INFO", "text", Stream(), later.append))
        log.info("one")
        log.info("two")
        self.assertEqual((flushed, len(later)), ([], 1))
        later.pop()()
        self.assertIn("two", flushed[0])
        log.info("three")
        log.warn("four")
        self.assertIn("four", flushed[1])

    def test_it_is_an_observer(self) -> None:
        """twistd can be given the observer as the application's."""
        self.assertTrue(verifyObject(ILogObserver, log_observer("INFO", "text", StringIO())))

    def test_standard_library_loggers(self) -> None:
        """asyncio's and treq's warnings arrive in the same form; their information does not."""
        stream = StringIO()
        observer = log_observer("DEBUG", "json", stream)
        globalLogPublisher.addObserver(observer)
        try:
            logging.getLogger("asyncio").info("slow")
            logging.getLogger("asyncio").warning("task %s was never awaited", "x")
            try:
                fail(ValueError("inner"))
            except ValueError:
                logging.getLogger("treq").exception("odd")
        finally:
            globalLogPublisher.removeObserver(observer)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        records = [json.loads(line) for line in stream.getvalue().splitlines()]
        self.assertEqual([record["level"] for record in records], ["WARN", "ERROR"])
        self.assertEqual(records[0]["message"], "task x was never awaited")
        self.assertIn("ValueError", records[1]["traceback"])

    def test_a_closed_stream_is_survived(self) -> None:
        """A log pipe that is gone does not stop the proxy."""
        log, stream = logged()
        stream.close()
        log.info("nobody listens")
        self.assertTrue(stream.closed)

    def test_a_broken_field_is_survived(self) -> None:
        """A value that cannot even be shown costs its own text only."""

        class Broken:
            def __str__(self) -> str:
                raise RuntimeError

        log, stream = logged()
        log.info("hello", it=Broken())
        self.assertIn("it=<Broken>", stream.getvalue())


class Secrets(SynchronousTestCase):
    """The last look: no line carries a token, code or secret, whoever wrote it."""

    def test_what_is_masked(self) -> None:
        """Each form in which a secret turns up in messages of libraries."""
        for text, secret in (
            (f"Authorization: Bearer {JWT}", JWT),
            ("authorization: bearer opaque-token-123", "opaque-token-123"),
            ("Basic Y2xpZW50OnNlY3JldA==", "Y2xpZW50OnNlY3JldA"),
            (f"bad token {JWT}!", "eyJzdWIiOiJhbGljZSJ9"),
            ("GET /oauth/callback?code=c0de&state=st4te HTTP/1.1", "c0de"),
            ("GET /oauth/callback?code=c0de&state=st4te HTTP/1.1", "st4te"),
            ('{"access_token": "t0ken", "expires_in": 60}', "t0ken"),
            (r'body was "{\"refresh_token\": \"t0ken\"}"', "t0ken"),
            ("client_secret=s3cret&grant_type=x", "s3cret"),
            ("code_verifier: ver1fier", "ver1fier"),
            ("PASSWORD=hunter2", "hunter2"),
            ("cannot connect to rediss://user:hunter2@cache:6379/0", "hunter2"),
            ("tried redis+sentinel://:hunter2@a:1,b:2/m", "hunter2"),
            ("sealed gAAAAABmZmZmZmZmZmZmZmZmZmZmZmY=", "ZmZmZm"),
        ):
            self.assertNotIn(secret, redact(text))
            self.assertIn(MASK, redact(text))

    def test_what_is_not(self) -> None:
        """Reason codes and paths stay readable."""
        for text in (
            "POST https://auth.example.com/realms/r/protocol/openid-connect/token: status 502",
            "reason=token_missing status=401",
            "path=/oauth/token method=POST",
            "a Bearer token is required",
            "alice@example.com from https://auth.example.com/realms/r?user=alice@example.com",
        ):
            self.assertEqual(redact(text), text)

    def test_in_every_format_and_place(self) -> None:
        """Message, field and traceback alike, as text and as JSON."""
        for format in ("text", "json"):
            log, stream = logged(format=format)
            log.info("got {what}", what=f"Bearer {JWT}", token="opaque", nested=f"x?code=c0de&a={JWT}")
            log.failure("failed", failure(ValueError(f"no such code=c0de, {JWT}")))
            for secret in (JWT, "opaque", "c0de"):
                self.assertNotIn(secret, stream.getvalue())

    @given(st.text(st.characters(categories=("Ll", "Nd"), codec="ascii"), min_size=8), st.text(max_size=10))
    def test_whatever_stands_around_it(self, secret: str, before: str) -> None:
        """A secret is masked wherever in a line it stands."""
        masked = redact(f"{before} access_token={secret}, Bearer {secret}")
        self.assertTrue(masked.endswith(f"access_token={MASK}, Bearer {MASK}"), masked)


class Observer(SynchronousTestCase):
    """The observer by itself."""

    def test_one_write_for_the_lines_of_a_turn(self) -> None:
        """With standard output unbuffered (PYTHONUNBUFFERED) no line costs a system call of its own."""
        writes: list[str] = []
        stream = StringIO()
        self.patch(stream, "write", writes.append)
        turn: list[Callable[[], None]] = []
        observer = LineObserver(LogLevel.info, lambda event: f"{event['x']}\n", stream, turn.append)
        own = {"log_level": LogLevel.info, "log_namespace": "mcp_oauth2_proxy.ops.access"}
        observer({**own, "x": 1})
        observer({**own, "x": 2})
        turn.pop()()
        observer({**own, "x": 3})
        turn.pop()()
        self.assertEqual(writes, ["1\n2\n", "3\n"])
        self.assertEqual(turn, [])

    def test_a_stream_that_processes_share(self) -> None:
        """Whole lines, as many at a time as a pipe takes in one piece: no other process gets in between."""
        writes: list[str] = []
        stream = StringIO()
        self.patch(stream, "write", writes.append)
        turn: list[Callable[[], None]] = []
        observer = LineObserver(
            LogLevel.info, lambda event: f"{event['x']}\n", stream, turn.append, shared=True
        )
        lines = ["a" * 1000] * 9 + ["\u00e9" * 2047, "b", "c" * 5000, "d"]
        for line in lines:
            observer({"log_level": LogLevel.info, "log_namespace": "mcp_oauth2_proxy.ops.access", "x": line})
        turn.pop()()
        self.assertEqual("".join(writes), "".join(f"{line}\n" for line in lines))
        self.assertEqual([write.count("\n") for write in writes], [4, 4, 1, 1, 1, 1, 1])
        self.assertTrue(all(len(write.encode()) <= PIPE_BUF for write in writes if "c" not in write))

    def test_events_without_level_or_time(self) -> None:
        """An odd event of a library makes a line, not an exception."""
        stream = StringIO()
        LineObserver(LogLevel.debug, lambda event: f"{event['x']}\n", stream)({"x": 1})
        log_observer("DEBUG", "text", stream)({})
        self.assertEqual(len(stream.getvalue().splitlines()), 2)
