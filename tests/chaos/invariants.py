"""What must hold whatever breaks: a pure judge of events. No rule looks into the proxy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen

from tests.chaos.history import (
    Answered,
    Calm,
    ComeBack,
    Echoed,
    Ending,
    Event,
    Forgot,
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

#: 5xx that say "not now": a proxy without its parts may answer so, but never that it is broken.
NOT_NOW = frozenset((502, 503, 504))
#: Seconds for which a used refresh token gives its answer again.
GRACE = 30.0
#: Seconds after a logout until nothing is relayed any more where all parts are well; and after the
#: last fault until everything works again.
LOGOUT, HEALING = 2.0, 10.0
#: The step that uses what is left of a session.
AFTER_THE_END = "call after the end"


@frozen
class Violation:
    """A rule that did not hold."""

    at: Moment
    rule: str
    event: Event


@define
class _Attempts:
    """What is known of one refresh token: attempts that have ended, and the answer of those that worked.

    ``used_at`` is when it was first known as used, by a store that was well and took note of it.
    """

    ended: list[tuple[Moment, Moment, int]] = field(factory=list)
    successor: str = ""
    used_at: Moment | None = None

    def is_late(self, began: Moment) -> bool:
        """Return whether an attempt that began then is no retry of one that worked."""
        return any(status == 200 and began.wall - ended.wall > GRACE + 1 for _, ended, status in self.ended)


class Referee:
    """Sees every event once, in its order; ``violations`` is what it objects to."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self._calm_since: Moment | None = None
        self._last_fault = Moment(0.0, 0.0)
        self._codes: set[str] = set()
        self._states: set[str] = set()
        self._clients: set[str] = set()
        self._refreshes: dict[str, _Attempts] = {}
        self._requests: dict[str, tuple[Moment, Sent]] = {}
        self._arrived: set[str] = set()
        self._ending: set[str] = set()
        self._forgot_at = Moment(0.0, 0.0)
        self._over: dict[str, Moment] = {}
        self._streams: dict[str, int] = {}
        self._rules: dict[type[Event], Callable[[Moment, Any], str | None]] = {
            Answered: self._answered,
            Calm: self._calm,
            ComeBack: self._come_back,
            Echoed: self._echoed,
            Ending: self._ends,
            Forgot: self._forgot,
            LoggedOut: self._logged_out,
            Note: self._noted,
            Received: self._received,
            Recovery: self._recovery,
            Redeemed: self._redeemed,
            Refreshed: self._refreshed,
            Refused: self._refused,
            Registered: self._registered,
            Relayed: self._relayed,
            Sent: self._sent,
            Stolen: self._stolen,
            Streamed: self._streamed,
            Tried: self._tried,
        }

    def observe(self, at: Moment, event: Event) -> Violation | None:
        """Judge one event."""
        rule = self._rules[type(event)](at, event)
        if rule is None:
            return None
        violation = Violation(at, rule, event)
        self.violations.append(violation)
        return violation

    def _noted(self, at: Moment, event: Note) -> str | None:
        self._last_fault = at
        return None

    def _calm(self, at: Moment, event: Calm) -> str | None:
        self._calm_since = at if event.yes else None
        return None

    def _answered(self, at: Moment, event: Answered) -> str | None:
        if event.status >= 500 and event.status not in NOT_NOW:
            return "no 5xx other than 502, 503 and 504"
        if event.error == "invalid_client" or (event.what == "authorize" and event.status in (400, 401, 404)):
            return "no client is forgotten"
        return None

    def _registered(self, at: Moment, event: Registered) -> str | None:
        known = event.client in self._clients
        self._clients.add(event.client)
        return "no token for another client: two registrations share an id" if known else None

    def _come_back(self, at: Moment, event: ComeBack) -> str | None:
        return self._once(self._states, event.state, "no state is used twice") if event.code else None

    def _redeemed(self, at: Moment, event: Redeemed) -> str | None:
        return self._once(self._codes, event.code, "no code is used twice") if event.status == 200 else None

    @staticmethod
    def _once(used: set[str], value: str, rule: str) -> str | None:
        if value in used:
            return rule
        used.add(value)
        return None

    def _received(self, at: Moment, event: Received) -> str | None:
        return (
            None if event.sid == event.expected else "no token for another client: it is of another session"
        )

    def _stolen(self, at: Moment, event: Stolen) -> str | None:
        return "no token for another client: it could refresh" if event.status == 200 else None

    def _refreshed(self, at: Moment, event: Refreshed) -> str | None:
        known = self._refreshes.setdefault(event.token, _Attempts())
        others, is_late = list(known.ended), known.is_late(event.began)
        known.ended.append((event.began, at, event.status))
        if event.status == 200:
            if is_late:
                return "no refresh token works again after the grace"
            if known.used_at is None and (self._is_calm(event.began) or not self._last_fault.pace):
                known.used_at = at
            if known.successor not in ("", event.successor):
                return "one refresh token has one answer"
            known.successor = event.successor
            if self._is_out(event.sid, event.began):
                return "no refresh after the logout"
        if is_late and event.status == 400 and known.used_at and known.used_at.pace > self._forgot_at.pace:
            # Somebody has a copy of it: all that came of the login is over (docs/logout.md).
            self._over.setdefault(event.sid, at)
        if not 400 <= event.status < 500 or event.sid in self._ending:
            return None
        # Another attempt whose answer was lost may have spent the token, which nobody can know.
        explained = any(status != 200 for _, _, status in others)
        forgotten = [ended for _, ended, _ in others if ended.pace <= self._forgot_at.pace]
        if forgotten:
            self._ending.add(event.sid)  # the realm has taken the second use for theft
        late = any(event.began.wall - ended.wall > GRACE - 1 for _, ended, _ in others)
        return None if explained or late or forgotten else "a refresh token that was never used works"

    def _sent(self, at: Moment, event: Sent) -> str | None:
        self._requests[event.nonce] = (at, event)
        return None

    def _relayed(self, at: Moment, event: Relayed) -> str | None:
        if event.nonce not in self._requests:
            return "no request is relayed that nobody sent"
        if event.nonce in self._arrived:
            return "no call is relayed twice"
        self._arrived.add(event.nonce)
        began, sent = self._requests[event.nonce]
        if event.token != sent.token:
            return "no token for another client: a request was relayed with another's token"
        # When it was judged is not known, when it was sent is.
        if began.wall >= sent.expires:
            return "no request is relayed with a token that has expired"
        return "no request is relayed after the logout" if self._is_out(sent.sid, began) else None

    def _is_out(self, sid: str, at: Moment) -> bool:
        """Return whether at that moment everybody had to know that the session was over."""
        over = self._over.get(sid)
        return over is not None and at.pace > over.pace + self._spread(over)

    def _spread(self, over: Moment) -> float:
        """Return the seconds that a logout has to reach everybody: more where a part was away meanwhile."""
        away = self._last_fault.pace >= over.pace or self._calm_since is None
        return max(self._last_fault.pace - over.pace, 0.0) + HEALING if away else LOGOUT

    def _echoed(self, at: Moment, event: Echoed) -> str | None:
        self._requests.pop(event.nonce, None)
        if (event.nonce, event.token) != (event.seen_nonce, event.seen_token):
            return "no answer for another client"
        return None

    def _refused(self, at: Moment, event: Refused) -> str | None:
        _, sent = self._requests.pop(event.nonce)
        if at.wall < sent.expires - 1 and sent.sid not in self._ending:
            return "a good token is served"
        return None

    def _forgot(self, at: Moment, event: Forgot) -> str | None:
        self._forgot_at = at
        return None

    def _ends(self, at: Moment, event: Ending) -> str | None:
        self._ending.add(event.sid)
        return None

    def _logged_out(self, at: Moment, event: LoggedOut) -> str | None:
        self._over.setdefault(event.sid, at)
        return None

    def _streamed(self, at: Moment, event: Streamed) -> str | None:
        before = self._streams.get(event.stream)
        self._streams[event.stream] = event.number
        if before is not None and event.number != before + 1:
            return f"a stream goes on where it was: {before} was followed by {event.number}"
        return "no event of a stream after the logout" if self._is_out(event.sid, at) else None

    def _tried(self, at: Moment, event: Tried) -> str | None:
        # A call that waits for its answer when its session ends is no exception: it is answered 401. (An
        # answer that has begun would be cut, which nginx passes on as it is; it makes a 502 only of an answer
        # that is cut before its first byte. Here an answer comes whole, and is never seen half-way.)
        if event.trouble and self._is_calm(event.began):
            return "everything works while nothing is broken"
        return None

    def _is_calm(self, since: Moment) -> bool:
        """Return whether nothing is broken, and has not been since that moment."""
        return self._calm_since is not None and since.pace > self._calm_since.pace

    def _recovery(self, at: Moment, event: Recovery) -> str | None:
        if event.missing:
            return f"everything works {HEALING:.0f} s after the last fault"
        return None
