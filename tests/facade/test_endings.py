"""Endings of sessions among processes: whoever was away learns them too."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.facade.endings import PART, READ_AGAIN, READ_EVERY, SharedEndings
from mcp_oauth2_proxy.facade.errors import OAuthError
from mcp_oauth2_proxy.facade.sealing import Sealer
from mcp_oauth2_proxy.facade.vault import Vault
from mcp_oauth2_proxy.gate.endings import Ending, Endings
from mcp_oauth2_proxy.stores.interfaces import IStore, StoreUnavailable
from tests.facade.world import START, FragileStore

HOUR = 3600.0
KEY = b"k" * 32


class Deaf(FragileStore):
    """A store to which nobody can listen: messages are lost and nobody is told."""

    def publish(self, channel: str, message: bytes) -> Deferred[None]:
        return super().ping()


class Process:
    """One worker or replica."""

    def __init__(self, store: IStore, clock: Clock, key: bytes = KEY) -> None:
        self.news = 0
        self.known = Endings(remember=24 * HOUR)
        vault = Vault(store, Sealer([key], clock.seconds))
        self.endings = SharedEndings(
            self.known, vault=vault, clock=clock, random=self._random, on_news=self._on_news
        )

    def _random(self) -> str:
        return f"log-{id(self)}-{self.news}"

    def _on_news(self) -> None:
        self.news += 1

    def end(self, ending: Ending) -> list[Any]:
        """End a session; the list gets ``None`` or a Failure."""
        result: list[Any] = []
        Deferred.fromCoroutine(self.endings.end(ending)).addBoth(result.append)
        return result

    def has_ended(self, session: str, at: float = START) -> bool:
        return self.known.ended(session, None, at)


class Shared(SynchronousTestCase):
    """Two processes with one store."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.store = FragileStore(self.clock)
        self.one, self.other = self.started(), self.started()

    def started(self, store: IStore | None = None, key: bytes = KEY) -> Process:
        process = Process(store or self.store, self.clock, key)
        process.endings.start()
        self.addCleanup(process.endings.stop)
        return process

    def ending(self, session: str = "s", **more: Any) -> Ending:
        return Ending(session=session, at=self.clock.seconds(), **more)

    def test_everybody_hears_it_at_once(self) -> None:
        """Ended in one process, a session is over in the other without any time passing, once."""
        self.assertEqual(self.one.end(self.ending()), [None])
        self.assertTrue(self.one.has_ended("s") and self.other.has_ended("s"))
        self.assertEqual((self.one.news, self.other.news), (1, 1))
        self.clock.advance(READ_EVERY)
        self.assertEqual((self.one.news, self.other.news), (1, 1))

    def test_who_starts_later(self) -> None:
        """A process that starts hours later, and one a day later: as long as it matters."""
        self.one.end(self.ending("early"))
        self.clock.advance(5 * HOUR)
        self.other.end(self.ending("late"))
        self.clock.advance(18 * HOUR)
        process = Process(self.store, self.clock)
        self.assertIsNotNone(process.endings.unready())
        self.assertNoResult(process.endings.first_look)
        process.endings.start()
        self.addCleanup(process.endings.stop)
        self.assertIsNone(process.endings.unready())
        self.successResultOf(process.endings.first_look)
        self.assertTrue(process.has_ended("early") and process.has_ended("late", START + 5 * HOUR))
        self.clock.advance(2 * HOUR)
        later = self.started()
        self.assertFalse(later.has_ended("early"))
        self.assertTrue(later.has_ended("late", START + 5 * HOUR))

    def test_a_message_that_nobody_heard(self) -> None:
        """It is read from the store within seconds."""
        deaf = Deaf(self.clock)
        one, other = self.started(deaf), self.started(deaf)
        one.end(self.ending())
        self.assertFalse(other.has_ended("s"))
        self.clock.advance(READ_EVERY)
        self.assertTrue(other.has_ended("s"))

    def test_missed(self) -> None:
        """When the store says that something may have been missed, it is read at once."""
        deaf = Deaf(self.clock)
        one, other = self.started(deaf), self.started(deaf)
        one.end(self.ending())
        deaf.inner._listeners.tell_missed()
        self.assertTrue(other.has_ended("s"))

    def test_many(self) -> None:
        """Both processes end sessions in turn, over hours; all are known to both and to a third."""
        for number in range(40):
            (self.one, self.other)[number % 2].end(self.ending(f"s{number}"))
            self.clock.advance(PART / 7)
        third = self.started()
        for process in (self.one, self.other, third):
            self.assertTrue(all(process.has_ended(f"s{number}") for number in range(40)))

    def test_the_store_is_down(self) -> None:
        """503, and here it has ended all the same; the others hear of it when the store is back."""
        self.store.down = True
        (failed,) = self.one.end(self.ending())
        self.assertEqual(failed.check(OAuthError) and failed.value.status, 503)
        self.assertTrue(self.one.has_ended("s"))
        self.assertFalse(self.other.has_ended("s"))
        self.clock.advance(READ_EVERY)
        self.store.down = False
        self.clock.advance(READ_AGAIN)
        self.assertTrue(self.other.has_ended("s"))
        self.assertTrue(self.started().has_ended("s"))

    def test_a_store_that_contradicts_itself(self) -> None:
        """One that has an entry and does not show it keeps nobody busy for ever: 503."""
        self.patch(self.store.inner, "add", lambda key, value, ttl: succeed(False))
        (failed,) = self.one.end(self.ending())
        self.assertEqual(failed.check(OAuthError) and failed.value.status, 503)

    def test_who_asked_has_left(self) -> None:
        """Keycloak hangs up while the store takes its time: the session ends everywhere all the same."""
        with patch.object(self.store.inner, "add", lambda key, value, ttl: Deferred()):
            under_way = Deferred.fromCoroutine(self.one.endings.end(self.ending()))
            under_way.cancel()
            self.failureResultOf(under_way, CancelledError)
        self.assertFalse(self.other.has_ended("s"))
        self.clock.advance(READ_AGAIN)
        self.assertTrue(self.other.has_ended("s"))

    def test_nobody_can_be_told(self) -> None:
        """The message gets lost: 503, and everybody knows a moment later."""
        lost = lambda channel, message: fail(StoreUnavailable("away"))  # noqa: E731 (a store's method)
        with patch.object(self.store.inner, "publish", lost):
            (failed,) = self.one.end(self.ending())
        self.assertEqual(failed.check(OAuthError) and failed.value.status, 503)
        self.clock.advance(READ_AGAIN)
        self.assertTrue(self.other.has_ended("s"))

    def test_started_without_the_store(self) -> None:
        """Not ready until what ended before is known; then by itself."""
        self.one.end(self.ending())
        self.store.down = True
        process = self.started()
        self.assertIn("endings", process.endings.unready() or "")
        self.successResultOf(process.endings.first_look)  # whoever waits for it does not wait for ever
        self.store.down = False
        self.clock.advance(READ_AGAIN)
        self.assertIsNone(process.endings.unready())
        self.assertTrue(process.has_ended("s"))

    def test_a_store_that_forgets_everything(self) -> None:
        """What one process knows is written down again, once, and who starts afterwards learns it."""
        for number in range(3):
            (self.one, self.other)[number % 2].end(self.ending(f"s{number}", offline=number == 1))
            self.clock.advance(READ_EVERY)
        self.forget_everything()
        self.one.end(self.ending("at once"))
        self.clock.advance(READ_EVERY)
        self.other.end(self.ending("later"))
        self.clock.advance(READ_EVERY)
        process = self.started()
        for session in ("s0", "s1", "s2", "at once", "later"):
            self.assertTrue(process.has_ended(session), session)
        self.assertTrue(process.known.ended("s1", None, START, offline=True))
        self.assertFalse(process.known.ended("s2", None, START, offline=True))
        entries = [key for key in self.store.inner._entries if key.startswith("ending:")]
        self.assertLessEqual(len(entries), 2 * 5 + 2, "nobody writes down what another has")

    def test_a_quiet_month(self) -> None:
        """The log keeps its name though nothing ends for long, and nobody reads it anew."""
        name = self.one.endings._log_name
        for _ in range(30):
            self.clock.pump([HOUR] * 24)
        self.assertEqual(self.one.endings._log_name, name)
        self.one.end(self.ending())
        self.assertTrue(self.started().has_ended("s", self.clock.seconds()))

    def forget_everything(self) -> None:
        """Have the store lose what it holds, and keep those who listen."""
        inner = self.store.inner
        for key in list(inner._entries):
            inner.take(key)

    def test_sealed(self) -> None:
        """Who can read and write the store learns no session and ends none; others' entries do no harm."""
        self.one.end(self.ending("kc-session", subject="anna"))
        for name, (value, _) in self.store.inner._entries.items():
            self.assertNotIn("kc-session", name)
            self.assertNotIn(b"kc-session", value)
            self.assertNotIn(b"anna", value)
        stranger = self.started(key=b"x" * 32)
        self.assertFalse(stranger.has_ended("kc-session"))
        stranger.end(self.ending("theirs"))
        self.assertFalse(self.one.has_ended("theirs"))
        self.other.end(self.ending("ours"))
        self.assertTrue(self.started().has_ended("ours"))

    def test_stopped(self) -> None:
        """Nothing stays on the clock."""
        for process in (self.one, self.other):
            process.endings.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
