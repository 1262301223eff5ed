"""The SQLite store: the contract, its file, its bounds, and other processes beside it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Event
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from mcp_oauth2_proxy.config.model import Store
from mcp_oauth2_proxy.config.store_url import parse_store_url
from mcp_oauth2_proxy.stores.breaker import Breaker
from mcp_oauth2_proxy.stores.database import BUSY_TIMEOUT, ENTRY_OVERHEAD, EVENT_TTL, MAX_EVENTS
from mcp_oauth2_proxy.stores.interfaces import StoreFull, StoreUnavailable
from mcp_oauth2_proxy.stores.open import open_store
from mcp_oauth2_proxy.stores.sqlite import POLL_EVERY, PURGE_EVERY, SqliteStore
from mcp_oauth2_proxy.stores.threads import MAX_WAITING, Threads
from tests.stores.contract import PATIENCE, ClockedStoreCase, StoreContract
from tests.support.program import REPOSITORY
from tests.support.reactor import global_reactor

#: What each of several processes does with the same file: take what it can get, claim what it can.
RIVAL = """
import sys
from time import time
from mcp_oauth2_proxy.stores.database import Database

database = Database(sys.argv[1], time, max_bytes=10**7, durable=False)
print("ready", flush=True)
sys.stdin.readline()
won = [f"{key}" for key in range(300) if database.take(f"code:{key}") is not None]
claimed = [f"{key}" for key in range(300) if database.add(f"refresh:{key}", b"x", 60)]
print(",".join(won), ",".join(claimed), flush=True)
"""


class SqliteCase(ClockedStoreCase):
    """Has a directory of its own, and stores that are closed in the end."""

    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = str(Path(directory.name) / "store.db")

    def make_store(self, **options: Any) -> SqliteStore:
        store = SqliteStore(self.path, global_reactor(), clock=self.clock, **options)
        self.addCleanup(store.close)
        return store

    def rows(self, table: str) -> int:
        """Return how many rows the file has, expired or not."""
        connection = sqlite3.connect(self.path)
        try:
            (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        finally:
            connection.close()
        return int(count)


class Contract(SqliteCase, StoreContract):
    """The SQLite store keeps every store's promises."""

    def make_other(self, store: Any) -> SqliteStore:
        return self.make_store()

    async def test_full(self) -> None:
        """A full store refuses what is new and keeps what others wait for."""
        self.full = self.make_store(max_bytes=ENTRY_OVERHEAD + len("code:kept") + 100)
        await self.full.put("code:kept", b"k" * 100, 60)
        await super().test_full()

    def make_full(self) -> SqliteStore:
        return self.full


class File(SqliteCase):
    """The file itself."""

    async def test_only_this_user_can_read_it(self) -> None:
        """Neither the file nor those that SQLite puts beside it are open to others."""
        await self.make_store().put("code:a", b"1", 60)
        files = sorted(Path(self.path).parent.iterdir())
        self.assertEqual([file.name for file in files], ["store.db", "store.db-shm", "store.db-wal"])
        self.assertEqual([oct(file.stat().st_mode & 0o777) for file in files], ["0o600"] * 3)

    async def test_a_file_that_was_open_to_others(self) -> None:
        """A file that somebody made beforehand is closed to others."""
        Path(self.path).touch(0o644)
        await self.make_store().put("code:a", b"1", 60)
        self.assertEqual(oct(Path(self.path).stat().st_mode & 0o777), "0o600")

    async def test_survives_a_restart(self) -> None:
        """A login that began before a restart ends after it."""
        before = self.make_store()
        await before.put("state:a", b"1", 60)
        await before.close()
        self.assertEqual(await self.make_store().take("state:a"), b"1")

    async def test_no_such_directory(self) -> None:
        """What is wrong with the path is said, and once it is mended the store works without a restart."""
        directory = Path(self.path).parent / "later"
        store = SqliteStore(str(directory / "store.db"), global_reactor(), clock=self.clock)
        self.addCleanup(store.close)
        error = await self.assertFailure(store.ping(), StoreUnavailable)
        self.assertIn("later/store.db: No such file or directory", str(error))
        directory.mkdir()
        await store.put("code:a", b"1", 60)
        self.assertEqual(await store.take("code:a"), b"1")

    async def test_something_else(self) -> None:
        """A file that is no store is left as it is."""
        Path(self.path).write_bytes(b"a file of somebody else's, longer than a page" * 100)
        error = await self.assertFailure(self.make_store().put("a", b"1", 60), StoreUnavailable)
        self.assertIn("not a database", str(error))
        self.assertTrue(Path(self.path).read_bytes().startswith(b"a file of somebody else's"))

    async def test_another_version(self) -> None:
        """A file of a later version is refused in words."""
        connection = sqlite3.connect(self.path)
        connection.execute("PRAGMA user_version = 2")
        connection.close()
        error = await self.assertFailure(self.make_store().ping(), StoreUnavailable)
        self.assertIn("another version", str(error))

    async def test_a_lock_that_is_held(self) -> None:
        """Another process that holds the lock costs a bounded wait, and nothing is lost."""
        store = self.make_store()
        await store.put("code:a", b"1", 60)
        connection = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(connection.close)
        connection.execute("BEGIN IMMEDIATE")
        begun = global_reactor().seconds()
        error = await self.assertFailure(store.take("code:a"), StoreUnavailable)
        self.assertGreater(global_reactor().seconds() - begun, BUSY_TIMEOUT / 2)
        self.assertIn("locked", str(error))
        self.assertEqual(await store.get("code:a"), b"1")  # readers do not wait
        connection.execute("ROLLBACK")
        self.assertEqual(await store.take("code:a"), b"1")

    async def test_given_up_and_not_done_later(self) -> None:
        """A code that could not be taken in time is still there for the next attempt."""
        hasty, patient = self.make_store(timeout=0.2), self.make_store()
        await patient.put("code:a", b"1", 60)
        connection = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(connection.close)
        connection.execute("BEGIN IMMEDIATE")
        guarded = Breaker(hasty, global_reactor(), wait=0.2)
        self.addCleanup(guarded.close)
        calls = [guarded.take("code:a") for _ in range(5)]
        for call in calls:
            await self.assertFailure(call, StoreUnavailable)
        connection.execute("ROLLBACK")
        await hasty._threads.run(lambda: None)  # has its turn after whatever was still under way
        self.assertEqual(await patient.take("code:a"), b"1")

    async def test_the_reactor_goes_on(self) -> None:
        """While the store waits for a lock the proxy serves others."""
        store = self.make_store()
        await store.ping()
        connection = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(connection.close)
        connection.execute("BEGIN IMMEDIATE")
        waiting = store.put("code:a", b"1", 60)
        turn: Deferred[None] = Deferred()
        global_reactor().callLater(0, turn.callback, None)
        await turn
        self.assertFalse(waiting.called)
        connection.execute("ROLLBACK")
        await waiting

    async def test_opened_by_many_at_once(self) -> None:
        """Processes that start together make one file."""
        stores = [self.make_store() for _ in range(6)]
        await gatherResults([store.put(f"code:{n}", b"1", 60) for n, store in enumerate(stores)])
        self.assertEqual(self.rows("entries"), 6)

    def test_processes(self) -> None:
        """Of four processes that want the same three hundred codes each code goes to one."""
        from mcp_oauth2_proxy.stores.database import Database  # noqa: PLC0415

        database = Database(self.path, global_reactor().seconds, max_bytes=10**7, durable=False)
        for key in range(300):
            database.put(f"code:{key}", b"1", 60)
        database.close()
        rivals = [
            subprocess.Popen(
                [sys.executable, "-c", RIVAL, self.path],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        self.addCleanup(lambda: [rival.kill() for rival in rivals])
        for rival in rivals:
            assert rival.stdout is not None
            self.assertEqual(rival.stdout.readline(), "ready\n")
        for rival in rivals:
            assert rival.stdin is not None
            rival.stdin.write("go\n")
            rival.stdin.flush()
        said = [rival.communicate(timeout=PATIENCE)[0].rstrip("\n").split(" ") for rival in rivals]
        everything = sorted(str(key) for key in range(300))
        for column in (0, 1):
            got = [key for lists in said for key in lists[column].split(",") if key]
            self.assertEqual(sorted(got), everything)


class Bounds(SqliteCase):
    """The file has an end, and gives room back."""

    async def test_expired_values_make_room(self) -> None:
        """After a flood of abandoned logins has expired, new ones work again."""
        store = self.make_store(max_bytes=10 * (ENTRY_OVERHEAD + 2))
        await gatherResults([store.put(str(number), b"v", 60) for number in range(10)])
        error = await self.assertFailure(store.put("x", b"v", 60), StoreFull)
        self.assertIn("full", str(error))
        self.clock.advance(29)  # before anything is removed by the clock
        self.clock.rightNow += 31
        await store.put("x", b"v", 60)
        self.assertEqual(self.rows("entries"), 1)

    async def test_refused_replacement_keeps_the_old_value(self) -> None:
        """A value that is too large does not destroy what it was to replace."""
        store = self.make_store(max_bytes=ENTRY_OVERHEAD + 10)
        await store.put("k", b"old", 60)
        await self.assertFailure(store.put("k", b"n" * 100, 60), StoreFull)
        self.assertEqual(await store.get("k"), b"old")
        await store.put("k", b"new value", 60)
        self.assertEqual(await store.get("k"), b"new value")

    async def test_the_count_of_bytes_is_right(self) -> None:
        """Whatever comes, is replaced, is taken and expires, no room is lost."""
        store = self.make_store(max_bytes=2 * (ENTRY_OVERHEAD + 11))
        for number in range(50):
            await store.put("k", b"v" * (number % 10), 60)
            await store.put("l", b"v" * 10, 1)
            self.clock.rightNow += 1
            self.assertEqual(await store.add("l", b"w" * 9, 60), True)
            await store.take("l" if number % 2 else "k")
        await store.take("k")
        await store.take("l")
        await store.put("a", b"v" * 10, 60)
        await store.put("b", b"v" * 10, 60)
        await self.assertFailure(store.put("c", b"", 60), StoreFull)

    async def test_what_expired_is_removed(self) -> None:
        """Nothing sealed stays on the disk for long after its time, though nobody asks for it."""
        store = self.make_store()
        await store.put("code:a", b"1", 10)
        await store.publish("revoked", b"1")
        self.assertEqual((self.rows("entries"), self.rows("events")), (1, 1))
        self.clock.advance(PURGE_EVERY)
        await store.get("code:a")  # has its turn after the removal
        self.assertEqual((self.rows("entries"), self.rows("events")), (0, 1))
        for _ in range(int(EVENT_TTL / PURGE_EVERY)):
            self.clock.advance(PURGE_EVERY)
            await store.get("code:a")
        self.assertEqual((self.rows("entries"), self.rows("events")), (0, 0))
        self.clock.advance(PURGE_EVERY)
        await store._threads.run(lambda: None)
        self.assertEqual(self.clock.getDelayedCalls(), [], "nothing is left that could expire")

    async def test_messages_are_bounded(self) -> None:
        """Messages that nobody hears do not fill the disk."""
        self.patch(sys.modules["mcp_oauth2_proxy.stores.database"], "MAX_EVENTS", 10)
        store = self.make_store()
        self.assertGreater(MAX_EVENTS, 1000)
        for _ in range(25):
            await store.publish("revoked", b"1")
        self.assertEqual(self.rows("events"), 10)

    async def test_one_that_was_away_too_long(self) -> None:
        """Who could not look for so long that messages are gone is told so, and hears what is left."""
        one, away = self.make_store(), self.make_store()
        heard: list[bytes] = []
        missed: list[bool] = []
        await away.subscribe("a", heard.append, lambda: missed.append(True))
        self.patch(sys.modules["mcp_oauth2_proxy.stores.database"], "MAX_EVENTS", 2)
        for number in range(5):
            await one.publish("a", b"%d" % number)
        self.assertEqual((heard, missed), ([], []))
        self.clock.advance(POLL_EVERY)
        await away.get("x")
        self.assertEqual((heard, missed), ([b"3", b"4"], [True]))
        await one.publish("a", b"5")
        self.clock.rightNow += EVENT_TTL
        self.clock.advance(POLL_EVERY)
        await away.get("x")
        self.assertEqual((heard, missed), ([b"3", b"4", b"5"], [True]))

    async def test_nobody_listens_nobody_looks(self) -> None:
        """Without listeners the file is not read four times a second."""
        store = self.make_store()
        unsubscribe = await store.subscribe("a", lambda _: None)
        self.assertIn(POLL_EVERY, self.waits())
        unsubscribe()
        self.clock.advance(POLL_EVERY)
        self.assertNotIn(POLL_EVERY, self.waits())

    def waits(self) -> list[float]:
        """Return for how long each timer still waits."""
        return [round(call.getTime() - self.clock.seconds(), 3) for call in self.clock.getDelayedCalls()]

    async def test_closing(self) -> None:
        """Nothing is left on the clock, and the files beside the store are gone."""
        store = self.make_store()
        await store.subscribe("a", lambda _: None)
        await store.put("code:a", b"1", 60)
        await store.close()
        await store.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(os.listdir(Path(self.path).parent), ["store.db"])
        await self.assertFailure(store.get("code:a"), StoreUnavailable)

    def test_opening(self) -> None:
        """``store.url`` names the file by an absolute path."""
        store = open_store(Store(url=parse_store_url(f"sqlite://{self.path}")), global_reactor())
        self.assertIsInstance(store._store, SqliteStore)


class Calls(TestCase):
    """The threads that do the waiting."""

    async def test_cancelled_while_waiting(self) -> None:
        """A call that nobody waits for any more does not happen late."""
        threads = Threads(global_reactor(), "test", 1)
        self.addCleanup(lambda: Deferred.fromCoroutine(threads.close()))
        done: list[int] = []
        hold = Event()
        first = threads.run(hold.wait, PATIENCE)
        second = threads.run(done.append, 2)
        third = threads.run(done.append, 3)
        second.addErrback(lambda _: None)
        second.cancel()
        hold.set()
        await first
        await third
        self.assertEqual(done, [3])

    async def test_too_many(self) -> None:
        """A store that is slow makes no endless queue."""
        threads = Threads(global_reactor(), "test", 1)
        self.addCleanup(lambda: Deferred.fromCoroutine(threads.close()))
        hold = Event()
        calls = [threads.run(hold.wait, PATIENCE)]
        calls += [threads.run(lambda: True) for _ in range(MAX_WAITING - 1)]
        await self.assertFailure(threads.run(lambda: True), StoreUnavailable)
        hold.set()
        await gatherResults(calls)
        self.assertEqual(await threads.run(lambda: 1), 1)
