"""What one client does in one step: log in, come back, redeem, refresh, call. Sometimes it does it twice."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Coroutine
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, DeferredList

from tests.chaos.history import (
    ComeBack,
    Echoed,
    Ending,
    LoggedOut,
    Moment,
    Received,
    Redeemed,
    Refreshed,
    Refused,
    Registered,
    Sent,
    Stolen,
    mark,
)
from tests.chaos.http import Lost, Watched
from tests.chaos.invariants import GRACE
from tests.e2e.application import CALLBACK, Application, document
from tests.keycloak_contract.harness import Pkce, unverified
from tests.support.browser import Answer
from tests.support.keycloak import CREDENTIALS as C

if TYPE_CHECKING:
    from tests.chaos.world import World


#: Seconds since a refresh token was used after which nobody can take its second use for a retry.
LATE = GRACE + 2
#: Sessions that a client has left behind and still knows: the first ones, which get old.
_LEFT = 2


class Trouble(Exception):
    """A step did not work; the text says how far it came."""


@frozen
class Session:
    """A person who is logged in: the latest tokens, and the first refresh token, once it was ``used_at``."""

    sid: str
    access: str
    expires: float
    refresh: str
    spent: str = ""
    used_at: float = 0.0

    def follows(self, before: Session, now: float) -> Session:
        """Return it as what a refresh of ``before`` gave."""
        first = (before.spent, before.used_at) if before.spent else (before.refresh, now)
        return evolve(self, spent=first[0], used_at=first[1])


class Member(Application):
    """An installed client that registers once, with a person who logs in again and again, each time anew."""

    def __init__(self, world: World, name: str, random: Random) -> None:
        super().__init__(world.reactor, f"{world.base_url}/mcp")
        self.world = world
        self.name = name
        self.random = random
        self.http = Watched(world, name)
        self.session: Session | None = None
        #: Sessions that have ended, the latest last.
        self.ended: list[Session] = []
        #: Sessions that go on, though the person has logged in anew.
        self.left: list[Session] = []
        #: How often each second use was tried, so that a run can say that it did.
        self.repeats: dict[str, int] = {}

    async def log_in(self) -> dict[str, Any]:
        """Do everything from the MCP URL to tokens, but register only the first time."""
        if not self.metadata:
            await self.discover()
        if not self.client_id:
            await self.register()
            self.world.saw(Registered(self.name, mark(self.client_id)))
        self.browser = Watched(self.world, self.name)
        pkce, state = Pkce.make(), secrets.token_urlsafe(24)
        arrival = await self.browser.log_in(
            self.authorize_url(pkce, state),
            until=f"{self.world.base_url}/oauth/callback",
            username=C.username,
            password=C.password,
        )
        code = await self._come_back(arrival.url, arrival.parameters["state"])
        tokens = await self._redeem(code, pkce)
        if self.session is not None and self.session.spent and len(self.left) < _LEFT:
            self.left.append(self.session)
        self.session = self._session(tokens, arrival.parameters["session_state"])
        return tokens

    def _session(self, tokens: dict[str, Any], expected: str) -> Session:
        claims = unverified(tokens["access_token"])[1]
        self.world.saw(Received(self.name, claims["sid"], expected))
        return Session(claims["sid"], tokens["access_token"], claims["exp"], tokens["refresh_token"])

    async def _come_back(self, url: str, state: str) -> str:
        """Bring the provider's answer to the callback, sometimes twice; return the client's code."""

        async def attempt(via: str) -> str:
            answer = await self.browser.request("GET", self.world.by(via, url))
            target = self.browser.onward(answer) or ""
            arrived = dict(parse_qsl(urlsplit(target).query)) if target.startswith(CALLBACK) else {}
            self.world.saw(ComeBack(self.name, via, mark(state), "code" in arrived))
            return arrived.get("code", "")

        codes: list[str] = [code for code in await self._perhaps_twice("state", attempt) if code]
        if not codes:
            raise Trouble("no code from the callback")
        return codes[0]

    async def _redeem(self, code: str, pkce: Pkce) -> dict[str, Any]:
        """Redeem a code, sometimes twice."""

        async def attempt(via: str) -> Answer:
            form = {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": CALLBACK,
                "client_id": self.client_id,
                "code_verifier": pkce.verifier,
            }
            answer = await self._token(via, form)
            self.world.saw(Redeemed(self.name, via, mark(code), answer.status))
            return answer

        answers = await self._perhaps_twice("code", attempt)
        return _first_document(answers)

    async def refresh_session(self) -> None:
        """Refresh, sometimes at both replicas at once, or again with the same token."""
        session = self._must_session()
        used = session.refresh

        async def attempt(via: str) -> Answer:
            began = self.world.pace.now()
            form = {"grant_type": "refresh_token", "refresh_token": used, "client_id": self.client_id}
            try:
                answer = await self._token(via, form)
            except Lost:
                self._saw_refresh(via, session, used, began, None)
                raise
            self._saw_refresh(via, session, used, began, answer)
            return answer

        answers = await self._perhaps_twice("refresh", attempt)
        if any(400 <= answer.status < 500 for answer in answers):
            self.session = None  # whether that may be is the judge's question; the person logs in anew
        self.session = self._renewed(session, _first_document(answers))

    def _renewed(self, session: Session, tokens: dict[str, Any]) -> Session:
        return self._session(tokens, session.sid).follows(session, self.world.pace.now().wall)

    async def _refresh_with(self, token: str, session: Session) -> Answer:
        """Use a refresh token of ``session``, once."""
        via, began = self._anywhere(), self.world.pace.now()
        form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": self.client_id}
        answer = await self._token(via, form)
        self._saw_refresh(via, session, token, began, answer)
        return answer

    def _saw_refresh(
        self, via: str, session: Session, used: str, began: Moment, answer: Answer | None
    ) -> None:
        status = answer.status if answer is not None else 0
        successor = (
            mark(json.loads(answer.body)["refresh_token"]) if answer is not None and status == 200 else ""
        )
        self.world.saw(Refreshed(self.name, via, mark(used), session.sid, began, status, successor))

    async def end(self, *, by_the_client: bool) -> None:
        """End the session: the client gives its refresh token back, or an administrator ends it."""
        session, self.session = self._must_session(), None
        self.ended.append(session)
        self.world.saw(Ending(self.name, session.sid))
        if not by_the_client:
            await self.world.provider.end_session(session.sid)
            return
        form = {"token": session.refresh, "client_id": self.client_id}
        url = self.world.by(self._anywhere(), self.metadata["revocation_endpoint"])
        answer = await self.http.request("POST", url, data=form)
        if answer.status != 200:
            raise Trouble(f"revoke: {answer.status}")
        self.world.saw(LoggedOut(self.name, session.sid))

    def reusable(self) -> Session | None:
        """Return a session whose first refresh token was used long ago."""
        known = [*self.left, *([self.session] if self.session is not None else [])]
        long_ago = self.world.pace.now().wall - LATE
        return next((one for one in known if one.spent and one.used_at < long_ago), None)

    async def reuse_late(self) -> None:
        """Use a refresh token once more, long after its first use: a thief's, or a stolen one's owner's.

        Before that the session gets tokens that are as new as can be, which are worth nothing afterwards.
        """
        session = self.reusable()
        if session is None:
            raise Trouble("no refresh token was used long ago")
        renewal = await self._refresh_with(session.refresh, session)
        if renewal.status >= 500:
            raise Trouble(f"token: {renewal.status}")
        self.left = [one for one in self.left if one is not session]
        if session is self.session:
            self.session = None
        if renewal.status != 200:
            return  # whether that may be is the judge's question
        renewed = self._renewed(session, json.loads(renewal.body))
        self.ended.append(renewed)
        self.world.saw(Ending(self.name, session.sid))
        answer = await self._refresh_with(session.spent, session)
        if answer.status >= 500:
            raise Trouble(f"token: {answer.status}")

    async def call_after_the_end(self) -> None:
        """Use what is left of a session that has ended; a call may be under way when its end is heard of."""
        session = self.ended[-1]
        await self.make_call(session.access, hold=self.random.choice((0, 0.3)))
        await self._refresh_with(session.refresh, session)

    async def steal(self, other: Member) -> None:
        """Try another client's refresh token."""
        if other.session is None or not self.client_id:
            return
        stolen, via = other.session.refresh, self._anywhere()
        form = {"grant_type": "refresh_token", "refresh_token": stolen, "client_id": self.client_id}
        answer = await self._token(via, form)
        self.world.saw(Stolen(self.name, via, mark(stolen), answer.status))
        if answer.status >= 500:
            raise Trouble(f"token: {answer.status}")

    async def make_call(self, token: str | None = None, *, hold: float = 0) -> None:
        """Make a call with the session's token, or with an older one."""
        used = token or self._must_session().access
        claims = unverified(used)[1]
        nonce, via = secrets.token_hex(8), self._anywhere()
        self.world.saw(Sent(self.name, via, nonce, mark(used), claims["sid"], claims["exp"]))
        answer = await self.http.request(
            "POST",
            self.world.by(via, self.mcp_url),
            json={"nonce": nonce, "hold": hold},
            headers={"Authorization": f"Bearer {used}", "Accept": "application/json"},
        )
        if answer.status == 200:
            seen = json.loads(answer.body)
            self.world.saw(Echoed(self.name, nonce, mark(used), seen["nonce"], seen["token"]))
        elif answer.status == 401:
            self.world.saw(Refused(self.name, nonce))
        else:
            raise Trouble(f"call: {answer.status} {answer.text[:200]}")

    async def _token(self, via: str, form: dict[str, str]) -> Answer:
        return await self.http.request("POST", self.world.by(via, self.metadata["token_endpoint"]), data=form)

    def _must_session(self) -> Session:
        if self.session is None:
            raise Trouble("not logged in")
        return self.session

    def _anywhere(self) -> str:
        """Return where to send a request."""
        return self.random.choice(self.world.ways)

    async def _perhaps_twice(
        self, what: str, attempt: Callable[[str], Coroutine[Any, Any, Any]]
    ) -> list[Any]:
        """Make one attempt, sometimes a second right after it, sometimes both at once at two replicas.

        Returns the answers that came. Raises :exc:`Lost` where none did.
        """
        how = self.random.choice(("once", "once", "once", "again", "at once"))
        one, two = self.world.ways[-2:]
        self.repeats[f"{what} {how}"] = self.repeats.get(f"{what} {how}", 0) + 1
        if how == "at once":
            both = [Deferred.fromCoroutine(attempt(via)) for via in (one, two)]
            results = await DeferredList(both, consumeErrors=True)
            failures = [found for worked, found in results if not worked]
            for failure in failures:
                failure.trap(Lost)
            if len(failures) == 2:
                failures[0].raiseException()
            return [found for worked, found in results if worked]
        answers = [await attempt(self._anywhere())]
        if how == "again":
            with contextlib.suppress(Lost):
                answers.append(await attempt(self.random.choice((one, two))))
        return answers


def _first_document(answers: list[Answer]) -> dict[str, Any]:
    """Return the answer that worked, or raise what went wrong."""
    worked = [answer for answer in answers if answer.status == 200]
    return document((worked or answers)[0])
