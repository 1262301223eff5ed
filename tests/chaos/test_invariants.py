"""The judge objects to what it should: each rule is broken once, and kept once, in a made-up history."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.chaos.history import (
    Answered,
    Calm,
    ComeBack,
    Echoed,
    Ending,
    Event,
    Forgot,
    History,
    LoggedOut,
    Moment,
    Note,
    Received,
    Recovery,
    Redeemed,
    Refreshed,
    Refused,
    Registered,
    Relayed,
    Sent,
    Stolen,
    Streamed,
    Tried,
)
from tests.chaos.invariants import AFTER_THE_END, GRACE, HEALING, LOGOUT, Referee

BEGAN = Moment(1000.0, 0.0)


def at(seconds: float) -> Moment:
    """Return the moment so many seconds after the beginning."""
    return Moment(BEGAN.wall + seconds, seconds)


def sent(nonce: str, *, sid: str = "s", expires: float = 60.0) -> Sent:
    """Return a request with a token that is good until ``expires`` seconds after the beginning."""
    return Sent("c", "nginx", nonce, "token", sid, BEGAN.wall + expires)


def refreshed(
    status: int, began: float = 0.0, *, successor: str = "", sid: str = "s", token: str = "t"
) -> Refreshed:
    """Return the use of a refresh token."""
    return Refreshed("c", "nginx", token, sid, at(began), status, successor)


class Judgement(SynchronousTestCase):
    """What is objected to in a list of (seconds, event)."""

    def judge(self, *events: tuple[float, Event]) -> list[str]:
        referee = Referee()
        for seconds, event in events:
            referee.observe(at(seconds), event)
        return [violation.rule for violation in referee.violations]

    def assert_broken(self, word: str, *events: tuple[float, Event]) -> None:
        """The last event, and no other, breaks a rule whose text has this word."""
        self.assertEqual(self.judge(*events[:-1]), [])
        (rule,) = self.judge(*events)
        self.assertIn(word, rule)

    def assert_kept(self, *events: tuple[float, Event]) -> None:
        self.assertEqual(self.judge(*events), [])

    def test_statuses(self) -> None:
        """500 is a defect whatever is broken; 503 is not."""
        self.assert_broken("5xx", (0, Answered("c", "nginx", "token", 500)))
        self.assert_kept(*((0, Answered("c", "nginx", "token", status)) for status in (502, 503, 504, 400)))

    def test_forgotten(self) -> None:
        """A registered client that is not known any more."""
        self.assert_broken("forgotten", (0, Answered("c", "nginx", "token", 401, "invalid_client")))
        self.assert_broken("forgotten", (0, Answered("c", "nginx", "authorize", 400)))

    def test_codes_and_states(self) -> None:
        """Each gives something once, wherever it is brought to."""
        self.assert_broken("code", (0, Redeemed("c", "one", "x", 200)), (0, Redeemed("c", "two", "x", 200)))
        self.assert_kept((0, Redeemed("c", "one", "x", 200)), (0, Redeemed("c", "two", "x", 400)))
        self.assert_broken(
            "state", (0, ComeBack("c", "one", "x", True)), (0, ComeBack("c", "two", "x", True))
        )
        self.assert_kept((0, ComeBack("c", "one", "x", False)), (0, ComeBack("c", "two", "x", True)))

    def test_of_another_client(self) -> None:
        """Tokens, calls, answers and registrations that got into the wrong hands."""
        self.assert_broken("another client", (0, Received("c", "this", "that")))
        self.assert_broken("another client", (0, Stolen("c", "one", "t", 200)))
        self.assert_kept((0, Stolen("c", "one", "t", 400)))
        self.assert_broken("another client", (0, Registered("a", "id")), (0, Registered("b", "id")))
        self.assert_broken("another", (0, sent("n")), (0, Relayed("upstream", "n", "other")))
        echo = (0, sent("n")), (0, Relayed("upstream", "n", "token"))
        self.assert_broken("another client", *echo, (0, Echoed("c", "n", "token", "m", "token")))
        self.assert_kept(*echo, (0, Echoed("c", "n", "token", "n", "token")))

    def test_refresh_tokens(self) -> None:
        """The first use works, all uses that work have one answer, and lost answers excuse a refusal."""
        self.assert_broken("never used", (1, refreshed(400)))
        self.assert_kept((1, refreshed(503)), (2, refreshed(400, 1)))
        self.assert_kept((1, refreshed(0)), (2, refreshed(400, 1)))
        self.assert_kept((1, refreshed(200, successor="a")), (2, refreshed(200, 1, successor="a")))
        self.assert_broken(
            "one answer", (1, refreshed(200, successor="a")), (2, refreshed(200, 1, successor="b"))
        )
        late = GRACE + 2
        self.assert_broken("never used", (1, refreshed(200, successor="a")), (2, refreshed(400, 1)))
        self.assert_kept((1, refreshed(200, successor="a")), (late, refreshed(400, late)))
        lost = (1, refreshed(200, successor="a")), (2, Forgot("chaos")), (3, refreshed(400, 2))
        self.assert_kept(*lost, (4, sent("n", expires=9)), (5, Refused("c", "n")))
        self.assert_broken("never used", (2, Forgot("chaos")), (3, refreshed(400, 2)))

    def test_refresh_tokens_that_come_again(self) -> None:
        """After the grace one that was used works no more, and its session is over, like after a logout."""
        late, renewed = GRACE + 3, refreshed(200, GRACE + 2.5, successor="b", token="u")
        used = (0.0, Calm("chaos", True)), (1.5, refreshed(200, 1, successor="a"))
        self.assert_broken("after the grace", *used, (late, refreshed(200, late, successor="a")))
        theft = *used, (late, renewed), (late, Ending("c", "s")), (late + 1, refreshed(400, late))
        later = late + 1.1 + LOGOUT
        arrival = Relayed("upstream", "n", "token")
        self.assert_broken("logout", *theft, (later, sent("n")), (later, arrival))
        self.assert_broken("logout", *theft, (later, refreshed(200, later, successor="c", token="b")))
        self.assert_kept(*theft, (late + 2, sent("n")), (later, arrival))
        self.assert_kept(*theft, (later, refreshed(400, later, token="b")))
        forgotten = *used, (2, Forgot("chaos")), *theft[2:]
        self.assert_kept(*forgotten, (later, sent("n")), (later, arrival))
        self.assert_broken("logout", *theft[1:], (later + HEALING, sent("n")), (later + HEALING, arrival))
        unsettled = (0.5, Note("chaos", "redis gone")), *theft[1:]
        self.assert_kept(*unsettled, (later + HEALING, sent("n")), (later + HEALING, arrival))

    def test_relayed(self) -> None:
        """Nothing is relayed that was not sent, nothing twice, nothing with an expired token."""
        arrival = Relayed("upstream", "n", "token")
        self.assert_broken("nobody sent", (0, arrival))
        self.assert_broken("twice", (0, sent("n")), (0, arrival), (1, arrival))
        self.assert_broken("expired", (5, sent("n", expires=5)), (6, arrival))
        self.assert_kept((4, sent("n", expires=5)), (6, arrival))

    def test_refused(self) -> None:
        """401 is for tokens that have expired and sessions that are over."""
        self.assert_broken("good token", (0, sent("n", expires=9)), (1, Refused("c", "n")))
        self.assert_kept((0, sent("n", expires=1)), (1, Refused("c", "n")))
        self.assert_kept((0, Ending("realm", "s")), (0, sent("n", expires=9)), (1, Refused("c", "n")))

    def test_logout(self) -> None:
        """Two seconds later nothing is relayed or refreshed; where parts were away, when they are healed."""
        calm, over = (0.0, Calm("chaos", True)), (1.0, LoggedOut("realm", "s"))
        arrival = Relayed("upstream", "n", "token")
        late, later = 1.1 + LOGOUT, 4.1 + HEALING
        self.assert_broken("logout", calm, over, (late, sent("n")), (late, arrival))
        self.assert_kept(calm, over, (2.0, sent("n")), (late, arrival))
        self.assert_broken("logout", calm, over, (late, refreshed(200, late)))
        self.assert_kept((0.5, Ending("realm", "s")), over, (late, refreshed(400, late)))
        self.assert_broken("logout", calm, over, (late, Streamed("c", "x", 1, "s")))
        self.assert_kept(calm, over, (late, Streamed("c", "x", 1)), (late, Streamed("c", "x", 2, "t")))
        fault = ((0.5, Calm("chaos", False)), over, (4.0, Note("chaos", "redis well again")))
        self.assert_kept(calm, *fault, (late, sent("n")), (late, arrival))
        self.assert_broken("logout", calm, *fault, (later, sent("n")), (later, arrival))

    def test_streams(self) -> None:
        """A stream neither leaves an event out nor repeats one."""
        for number in (1, 3):
            self.assert_broken("stream", (0, Streamed("c", "s", 1)), (0, Streamed("c", "s", number)))
        self.assert_kept((0, Streamed("c", "s", 1)), (0, Streamed("c", "s", 2)))

    def test_calm(self) -> None:
        """A step that fails while nothing is broken; one that began before may."""
        calm = (1.0, Calm("chaos", True))
        self.assert_broken("nothing is broken", calm, (3, Tried("c", "call", at(2), "call: 502")))
        self.assert_kept(calm, (3, Tried("c", "call", at(0.5), "call: 502")))
        self.assert_kept(calm, (2, Calm("chaos", False)), (3, Tried("c", "call", at(1.5), "call: 502")))
        self.assert_broken("nothing", calm, (3, Tried("c", AFTER_THE_END, at(2), "call: 502")))

    def test_recovery(self) -> None:
        """Something that still does not work when the time for healing is over."""
        self.assert_broken("after the last fault", (1, Recovery("chaos", 10.0, "client 1: call")))
        self.assert_kept((1, Recovery("chaos", 3.0)))


class Telling(SynchronousTestCase):
    """What is shown of a violation."""

    def test_around(self) -> None:
        """The lines before and after it, with no empty fields, and not those of long ago."""
        history = History(BEGAN)
        for seconds in range(20):
            history.add(at(seconds), Answered("client 1", "nginx", "token", 200))
        lines = list(history.around(at(10), before=2, after=1))
        self.assertEqual(len(lines), 4)
        self.assertEqual(
            lines[0].split(), ["8.000", "client", "1", "Answered", "via=nginx", "what=token", "status=200"]
        )
