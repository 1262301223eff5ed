"""Asking Keycloak whether a token is still good (RFC 7662), as seldom as the operator wants.

Keycloak's facts (26.7.3): the answer is ``active: false`` for a token whose ``aud`` does not name the client
that asks, since 26.6.2; and ``true`` for an ID token. So tokens come here when everything else is judged.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

from twisted.internet.defer import Deferred, DeferredSemaphore, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable

#: Answers remembered at most, about 200 bytes each.
MAX_REMEMBERED = 50_000
#: Questions under way at the same time, and how many tokens wait for their turn at most.
MAX_CALLS = 20
MAX_WAITING = 1000
#: Seconds that Keycloak may take: somebody's request waits for it.
TIMEOUT = 3.0
#: Seconds for which Keycloak is left alone after a failure, and every question fails at once.
PAUSE = 1.0


class Introspection:
    """Answers from memory for ``remember`` seconds after Keycloak said it, whatever it said.

    ``ask`` asks Keycloak about one token. Concurrent questions about one token are one call. Where Keycloak
    does not answer nobody is let in on an answer that has run out: the question fails with
    :exc:`KeycloakUnavailable`.
    """

    _log = Logger()

    def __init__(self, ask: Callable[[str], Deferred[bool]], *, clock: IReactorTime, remember: float) -> None:
        self._ask = ask
        self._clock = clock
        self._remember = remember
        # All live equally long, so the first is the next to go. What is remembered is a hash, never a token.
        self._answers: OrderedDict[bytes, tuple[bool, float]] = OrderedDict()
        self._waiting: dict[bytes, list[Deferred[bool]]] = {}
        self._turns = DeferredSemaphore(MAX_CALLS)
        self._failing: str | None = None
        self._paused_until = 0.0

    def __len__(self) -> int:
        return len(self._answers)

    def is_active(self, token: str) -> Deferred[bool]:
        """Return whether Keycloak calls ``token`` active; fails with :exc:`KeycloakUnavailable`."""
        digest = sha256(token.encode("ascii")).digest()
        answer = self._answers.get(digest)
        now = self._clock.seconds()
        if answer is not None and now < answer[1]:
            return succeed(answer[0])
        waiting: Deferred[bool] = Deferred()
        others = self._waiting.get(digest)
        if others is not None:
            others.append(waiting)
            return waiting
        if len(self._waiting) >= MAX_CALLS + MAX_WAITING:
            return fail(KeycloakUnavailable(f"{MAX_WAITING} tokens wait to be introspected"))
        self._waiting[digest] = [waiting]
        self._turns.run(self._call, token).addBoth(self._spread, digest)
        return waiting

    def _call(self, token: str) -> Deferred[bool]:
        if self._failing is not None and self._clock.seconds() < self._paused_until:
            return fail(KeycloakUnavailable(self._failing))

        def late(_: object, wait: float) -> None:
            raise KeycloakUnavailable(f"introspection: no answer within {wait:g} s")

        asked = self._ask(token).addTimeout(TIMEOUT, self._clock, late)
        return asked.addCallbacks(self._answered, self._failed)

    def _answered(self, active: bool) -> bool:
        if self._failing is not None:
            self._failing = None
            self._log.info("introspection works again")
        return active

    def _failed(self, failure: Failure) -> Failure:
        if failure.check(KeycloakUnavailable):
            if self._failing is None:
                self._log.error(
                    "introspection fails, requests are answered 503: {reason}",
                    reason=failure.getErrorMessage(),
                )
            self._failing = failure.getErrorMessage()
            self._paused_until = self._clock.seconds() + PAUSE
        return failure

    def _spread(self, result: bool | Failure, digest: bytes) -> None:
        if not isinstance(result, Failure):
            self._keep(digest, result)
        for waiting in self._waiting.pop(digest):
            if not waiting.called:
                waiting.callback(result)  # a Failure starts the errback chain

    def _keep(self, digest: bytes, active: bool) -> None:
        now = self._clock.seconds()
        self._answers.pop(digest, None)
        self._answers[digest] = (active, now + self._remember)
        while self._answers:
            first = next(iter(self._answers))
            if len(self._answers) <= MAX_REMEMBERED and now < self._answers[first][1]:
                break
            del self._answers[first]
