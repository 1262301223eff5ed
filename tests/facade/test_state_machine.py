"""The whole flow as a state machine: whatever comes in whatever order, some things never happen.

No code or refresh token gives tokens twice to different answers, none gives them to another client, and
nobody is sent to a place that the client has not registered. And nothing works that follows from a refresh
token that came again too late, or was revoked.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from attrs import define, evolve, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.keycloak.interfaces import KeycloakUnavailable
from tests.facade.world import VERIFIER, Browser, Registered, Response, World

#: An attack now and then: most moves must be honest, or no game gets anywhere.
SELDOM = st.sampled_from((False, False, False, True))
PLACES = ("https://one.example/cb", "https://two.example/cb", "http://127.0.0.1:7/cb", "cursor://x/cb")


@define
class Code:
    """A code that a client was given."""

    client: Registered
    code: str
    issued_at: float
    redeemed: bool = False


@define
class Grant:
    """A refresh token that a client was given; ``family`` is the login it came from."""

    client: Registered
    token: str
    family: int
    answers: list[str] = field(factory=list)
    answered_at: float = 0.0


#: How often the games got somewhere.
games: Counter[str] = Counter()


class Flow(RuleBasedStateMachine):
    """Clients, browsers, codes and tokens, with a clock and restarts between them."""

    clients = Bundle("clients")
    browsers = Bundle("browsers")
    pages = Bundle("pages")
    logins = Bundle("logins")
    codes = Bundle("codes")
    grants = Bundle("grants")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.places: dict[str, str] = {}
        self.registered: dict[str, float] = {}
        self.families = 0
        self.revoked: set[int] = set()
        self.led: list[tuple[str, str]] = []
        self.access_tokens: dict[str, str] = {}

    @property
    def now(self) -> float:
        return self.world.clock.seconds()

    def follow(self, client: Registered, answer: Response) -> dict[str, str]:
        """Note where an answer leads; return the parameters when it is the client's place."""
        target = answer.location
        self.led.append((client.client_id, target))
        return dict(parse_qsl(urlsplit(target).query))

    @initialize(target=clients)
    def begin(self) -> Any:
        """Two clients, so that there is somebody to steal from."""
        return multiple(self.register(PLACES[0]), self.register(PLACES[2]))

    @initialize(target=browsers)
    def begin_browsing(self) -> Any:
        return multiple(Browser(self.world), Browser(self.world))

    @rule(target=clients, place=st.sampled_from(PLACES))
    def register(self, place: str) -> Registered:
        client = self.world.register(place)
        self.places[client.client_id] = place
        self.registered[client.client_id] = self.now
        return client

    @rule(target=browsers)
    def open_browser(self) -> Browser:
        return Browser(self.world)

    @rule(target=pages, client=clients, browser=browsers, place=st.sampled_from((None, *PLACES)))
    def authorize(self, client: Registered, browser: Browser, place: str | None) -> Any:
        asked = client if place is None else evolve(client, redirect_uri=place)
        answer = browser.get(self.world.authorize_url(asked))
        own = self.places[client.client_id]
        if place not in (None, own) and not {place, own} <= {"http://127.0.0.1:7/cb"}:
            assert answer.code == 400, answer.code
            assert not answer.headers.hasHeader("Location")
            return multiple()
        if "decision" not in answer.text:
            # Allowed before in this browser, or an error that went to the client.
            self.check_departure(client, answer)
            return multiple()
        return client, browser, answer

    def check_departure(self, client: Registered, answer: Response) -> None:
        """A step without a question leads to the realm, to the client's own place, or to an error page."""
        if answer.code in (400, 503):
            return
        target = answer.location
        assert target.startswith(("https://auth.example.com/", self.places[client.client_id])), target

    @rule(target=logins, page=pages, other=browsers, swap=SELDOM)
    def approve(self, page: Any, other: Browser, swap: bool) -> Any:
        client, browser, answer = page
        using = other if swap else browser
        left = using.decide(answer)
        if left.code != 200:
            assert left.code in (400, 503)
            return multiple()
        return client, using, left

    @rule(page=pages)
    def deny(self, page: Any) -> None:
        client, browser, answer = page
        left = browser.decide(answer, "deny")
        if left.code == 200:
            assert self.follow(client, left)["error"] == "access_denied"

    @rule(target=codes, login=logins, other=browsers, swap=SELDOM, fails=SELDOM)
    def callback(self, login: Any, other: Browser, swap: bool, fails: bool) -> Any:
        client, browser, left = login
        changes = {"error": "access_denied"} if fails else {}
        using = other if swap else browser
        answer = using.get(self.world.realm.answer_to(left.location, **changes))
        if answer.code not in (200, 302):
            assert answer.code in (400, 503)
            return multiple()
        found = self.follow(client, answer)
        if "code" not in found:
            return multiple()
        return Code(client, found["code"], self.now)

    @rule(target=codes, client=clients)
    def log_in(self, client: Registered) -> Any:
        """All of it at once, in a browser of its own."""
        expired = self.now - self.registered[client.client_id] > 86400
        if self.world.realm.failure is not None or expired:
            return multiple()
        return Code(client, self.world.code_for(client), self.now)

    @rule(target=grants, code=codes, thief=clients, steal=SELDOM, guess=SELDOM)
    def exchange(self, code: Code, thief: Registered, steal: bool, guess: bool) -> Any:
        client = thief if steal else code.client
        verifier = "w" * 43 if guess else VERIFIER
        answer = self.world.redeem(client, code.code, code_verifier=verifier)
        if answer.code != 200:
            return multiple()
        assert client.client_id == code.client.client_id, "a code gave tokens to another client"
        assert verifier == VERIFIER, "a code gave tokens without its verifier"
        assert not code.redeemed, "a code gave tokens twice"
        assert self.now - code.issued_at <= 300, "a code gave tokens after its time"
        code.redeemed = True
        self.families += 1
        games["tokens"] += 1
        return self.granted(client, answer, self.families)

    def granted(self, client: Registered, answer: Response, family: int) -> Grant:
        access_token = answer.json["access_token"]
        owner = self.access_tokens.setdefault(access_token, client.client_id)
        assert owner == client.client_id, "two clients got one token"
        return Grant(client, answer.json["refresh_token"], family)

    @rule(target=grants, grant=grants, thief=clients, steal=SELDOM)
    def refresh(self, grant: Grant, thief: Registered, steal: bool) -> Any:
        client = thief if steal else grant.client
        answer = self.world.refresh(client, grant.token)
        if answer.code != 200:
            own = client.client_id == grant.client.client_id
            # For so long the stand-in's tokens are known as used.
            late = grant.answers and 30 < self.now - grant.answered_at < 1800
            if own and late and answer.json["error"] == "invalid_grant":
                games["reuses"] += 1
                self.revoked.add(grant.family)
            return multiple()
        assert client.client_id == grant.client.client_id, "a refresh token worked for another client"
        assert grant.family not in self.revoked, "a revoked token worked"
        games["refreshes"] += 1
        grant.answered_at = grant.answered_at or self.now
        grant.answers.append(answer.json["refresh_token"])
        assert len(set(grant.answers)) == 1, "one refresh token has two successors"
        return self.granted(client, answer, grant.family)

    @rule(target=grants, grant=grants)
    def refresh_and_come_late(self, grant: Grant) -> Any:
        """A refresh, and the same token once more when nobody would take that for a retry."""
        successor = self.refresh(grant, grant.client, False)
        self.wait(31)
        self.refresh(grant, grant.client, False)
        return successor

    @rule(grant=grants, thief=clients, steal=SELDOM)
    def revoke(self, grant: Grant, thief: Registered, steal: bool) -> None:
        client = thief if steal else grant.client
        form = {"client_id": client.client_id, "token": grant.token}
        answer = self.world.request("POST", "/oauth/revoke", form=form)
        if answer.code == 200:
            assert client.client_id == grant.client.client_id, "another client revoked a token"
            games["revocations"] += 1
            self.revoked.add(grant.family)

    @rule(seconds=st.sampled_from((1, 31, 299, 601, 86401)))
    def wait(self, seconds: int) -> None:
        self.world.clock.advance(seconds)

    @rule(browser=consumes(browsers))
    def restart(self, browser: Browser) -> None:
        """A new process with the same store, clock and realm: browsers go on, this one is closed."""
        old = self.world
        new = World(clock=old.clock, realm=old.realm, shared_store=old.store)
        # The other browsers and this machine talk to the new process from now on.
        object.__setattr__(old, "agent", new.agent)

    @rule(is_down=SELDOM)
    def keycloak(self, is_down: bool) -> None:
        self.world.realm.failure = KeycloakUnavailable("away") if is_down else None

    @invariant()
    def nobody_is_led_astray(self) -> None:
        for client_id, target in self.led:
            assert target.startswith(self.places[client_id]), (client_id, target)
        self.led.clear()


class StateMachine(SynchronousTestCase):
    """Hypothesis plays."""

    def test_flow(self) -> None:
        """Some hundred games of up to fifty moves."""
        case = Flow.TestCase
        case.settings = settings(
            max_examples=250,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )
        games.clear()
        case("runTest").runTest()
        # Games in which nobody gets anything would prove nothing.
        for event in ("tokens", "refreshes", "reuses", "revocations"):
            self.assertGreater(games[event], 0, games)
