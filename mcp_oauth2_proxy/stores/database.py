"""The SQLite file behind :mod:`mcp_oauth2_proxy.stores.sqlite`: every call blocks, all in one thread.

Facts: in WAL mode readers and the one writer do not wait for each other, and a statement or transaction
that writes holds the only write lock there is, so that whatever it decides is decided for all processes.
"""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from mcp_oauth2_proxy.stores.interfaces import StoreFull, StoreUnavailable

_T = TypeVar("_T")

#: Bytes of keys and values held at most; the file is about a quarter larger.
MAX_BYTES = 256 * 1024 * 1024
#: What an entry costs beside its key and value: the row's head, its two index entries, slack in pages.
ENTRY_OVERHEAD = 200
#: Seconds for which a call waits for another process's transaction at most; those take a few milliseconds.
BUSY_TIMEOUT = 1.0
#: Messages kept for those who poll, how long in seconds, and how many one look returns at most.
MAX_EVENTS = 10_000
EVENT_TTL = 60.0
EVENTS_AT_ONCE = 500
#: Bytes to which the write-ahead log shrinks once it has been carried over.
MAX_LOG_BYTES = 4 * 1024 * 1024
#: The layout's version; a file of another one is not touched.
VERSION = 1
#: RETURNING.
OLDEST_SQLITE = (3, 35)

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires REAL NOT NULL);
CREATE INDEX IF NOT EXISTS entries_by_expiry ON entries (expires);
CREATE TABLE IF NOT EXISTS usage (one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER NOT NULL);
INSERT OR IGNORE INTO usage VALUES (1, 0);
CREATE TRIGGER IF NOT EXISTS entry_came AFTER INSERT ON entries BEGIN
    UPDATE usage SET bytes = bytes + length(new.key) + length(new.value) + {ENTRY_OVERHEAD};
END;
CREATE TRIGGER IF NOT EXISTS entry_changed AFTER UPDATE ON entries BEGIN
    UPDATE usage SET bytes = bytes + length(new.value) - length(old.value);
END;
CREATE TRIGGER IF NOT EXISTS entry_went AFTER DELETE ON entries BEGIN
    UPDATE usage SET bytes = bytes - length(old.key) - length(old.value) - {ENTRY_OVERHEAD};
END;
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, message BLOB NOT NULL, expires REAL NOT NULL
);
PRAGMA user_version = {VERSION};
"""  # noqa: S608 (the numbers are constants of this module)


@frozen
class Events:
    """What was published after a certain event: the number of the last, and whether some are gone already."""

    last: int
    messages: tuple[tuple[str, bytes], ...] = ()
    missed: bool = False


class Database:
    """``now`` returns the time in seconds since the epoch, the same in all processes.

    ``durable`` waits for the disk at every change, so that not even a power cut brings back a code that
    was taken; without it a crash of the machine may undo the last moments, or lose the file. Nothing is
    changed ``timeout`` seconds after it was asked for: nobody waits for that any more.
    """

    def __init__(
        self,
        path: str,
        now: Callable[[], float],
        *,
        max_bytes: int,
        durable: bool,
        timeout: float = 2 * BUSY_TIMEOUT,
    ) -> None:
        self._path = path
        self._now = now
        self._max_bytes = max_bytes
        self._durable = durable
        # What is decided by then is known by then: writing it takes a part of the time too.
        self._decide_within = timeout * 0.9
        self._wait = min(BUSY_TIMEOUT, timeout / 2)
        self._decide_by = math.inf
        self._connection: sqlite3.Connection | None = None

    def deadline(self) -> float:
        """Return until when what is asked for now may be done, for :meth:`by`."""
        return time.monotonic() + self._decide_within

    def by(self, deadline: float, function: Callable[..., _T], *arguments: object) -> _T:
        """Return ``function(*arguments)``, a call of this object that changes nothing after ``deadline``."""
        self._decide_by = deadline
        return function(*arguments)

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """See :class:`IStore`."""
        with self._transaction() as database:
            now = self._now()
            self._make_room(database, key, value, now)
            database.execute(
                "INSERT INTO entries VALUES (:key, :value, :expires) ON CONFLICT (key) "
                "DO UPDATE SET value = excluded.value, expires = excluded.expires",
                {"key": key, "value": value, "expires": now + ttl},
            )

    def add(self, key: str, value: bytes, ttl: float) -> bool:
        """See :class:`IStore`."""
        with self._transaction() as database:
            now = self._now()
            if database.execute("SELECT 1 FROM entries WHERE key = ? AND expires > ?", (key, now)).fetchone():
                return False
            self._make_room(database, key, value, now)
            database.execute(
                "INSERT INTO entries VALUES (:key, :value, :expires) ON CONFLICT (key) "
                "DO UPDATE SET value = excluded.value, expires = excluded.expires",
                {"key": key, "value": value, "expires": now + ttl},
            )
            return True

    def get(self, key: str) -> bytes | None:
        """See :class:`IStore`."""
        with self._used() as database:
            row = database.execute(
                "SELECT value FROM entries WHERE key = ? AND expires > ?", (key, self._now())
            ).fetchone()
            return row[0] if row else None

    def take(self, key: str) -> bytes | None:
        """See :class:`IStore`."""
        with self._transaction() as database:
            rows = database.execute(
                "DELETE FROM entries WHERE key = ? RETURNING value, expires", (key,)
            ).fetchall()
            return rows[0][0] if rows and rows[0][1] > self._now() else None

    def ping(self) -> None:
        """See :class:`IStore`: the write lock can be had."""
        with self._transaction():
            pass

    def publish(self, channel: str, message: bytes) -> None:
        """See :class:`IStore`."""
        with self._transaction() as database:
            row = ("INSERT INTO events (channel, message, expires) VALUES (?, ?, ?)",)
            event = database.execute(*row, (channel, message, self._now() + EVENT_TTL)).lastrowid or 0
            database.execute("DELETE FROM events WHERE id <= ?", (event - MAX_EVENTS,))

    def events(self, last: int | None) -> Events:
        """Return what was published after the event ``last``; ``None`` begins with what comes next."""
        with self._used() as database:
            row = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
            newest = row[0] if row else 0
            if last is None or newest == last:
                return Events(newest)
            rows = database.execute(
                "SELECT id, channel, message FROM events WHERE id > ? ORDER BY id LIMIT ?",
                (last, EVENTS_AT_ONCE),
            ).fetchall()
            # Numbers have no holes; where the file is another one they may even begin anew.
            if not rows or newest < last:
                return Events(newest, missed=True)
            messages = tuple((channel, message) for _, channel, message in rows)
            return Events(rows[-1][0], messages, missed=rows[0][0] != last + 1)

    def purge(self) -> bool:
        """Remove what has expired; return whether anything is left that will."""
        with self._transaction() as database:
            now = self._now()
            database.execute("DELETE FROM entries WHERE expires <= ?", (now,))
            database.execute("DELETE FROM events WHERE expires <= ?", (now,))
            row = database.execute(
                "SELECT EXISTS (SELECT 1 FROM entries) OR EXISTS (SELECT 1 FROM events)"
            ).fetchone()
            return bool(row[0])

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _make_room(self, database: sqlite3.Connection, key: str, value: bytes, now: float) -> None:
        """Raise :exc:`StoreFull` where ``value`` does not fit even once the expired are gone."""
        if self._bytes_with(database, key, value) <= self._max_bytes:
            return
        database.execute("DELETE FROM entries WHERE expires <= ?", (now,))
        if self._bytes_with(database, key, value) > self._max_bytes:
            raise StoreFull(f"the SQLite store is full: {self._max_bytes} bytes")

    def _bytes_with(self, database: sqlite3.Connection, key: str, value: bytes) -> int:
        row = database.execute(
            "SELECT bytes - coalesce((SELECT length(key) + length(value) + :overhead FROM entries "
            "WHERE key = :key), 0) FROM usage",
            {"key": key, "overhead": ENTRY_OVERHEAD},
        ).fetchone()
        return int(row[0]) + len(key) + len(value) + ENTRY_OVERHEAD

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock; what is done is done as a whole."""
        with self._used() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                if time.monotonic() > self._decide_by:
                    raise StoreUnavailable("SQLite: others held the lock for too long")  # noqa: TRY301
                yield database
            except StoreFull:  # what expired is gone nevertheless
                database.execute("COMMIT")
                raise
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    @contextmanager
    def _used(self) -> Iterator[sqlite3.Connection]:
        """Give the open file; SQLite's errors become the store's."""
        try:
            if self._connection is None:
                self._connection = self._open()
            yield self._connection
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if not name.startswith("SQLITE_BUSY"):
                self.close()  # whatever it was, a fresh look at the file is the best that can be done
            kind = StoreFull if name == "SQLITE_FULL" else StoreUnavailable
            raise kind(f"SQLite at {self._path}: {error}") from None
        except OSError as error:
            raise StoreUnavailable(f"SQLite at {self._path}: {error.strerror}") from None

    def _open(self) -> sqlite3.Connection:
        _create(self._path)
        connection = sqlite3.connect(
            self._path, timeout=self._wait, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise StoreUnavailable(f"SQLite at {self._path}: made by another version of this program")
        if _in_wal_mode(connection, self._wait) != "wal":
            raise StoreUnavailable(f"SQLite at {self._path}: no shared memory, is it a network file system?")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}")
        connection.execute(f"PRAGMA journal_size_limit = {MAX_LOG_BYTES}")
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")


def _create(path: str) -> None:
    """Make the file readable for this user alone, as SQLite then makes the files beside it."""
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
    try:
        os.close(os.open(path, flags, 0o600))
    except FileExistsError:
        # Opening and closing it would drop the locks that this process has on it by another connection.
        if Path(path).stat().st_mode & 0o077:
            with suppress(PermissionError):  # it is somebody else's; what is in it is sealed
                Path(path).chmod(0o600)


def _in_wal_mode(connection: sqlite3.Connection, wait: float) -> str:
    """Switch to WAL mode and return the mode; SQLite does not wait for others who do the same."""
    deadline = time.monotonic() + wait
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return str(mode)
