"""A person's browser, as far as logging in needs one: cookies, redirects, consent page, login form."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urljoin, urlsplit

from attrs import field, frozen
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.web.client import Agent

from mcp_oauth2_proxy.demo.forms import Form, Page, read_page

#: More steps than any login takes: a loop ends here.
_MOST_STEPS = 12
#: Seconds that one waits for an answer.
_PATIENCE = 30.0

_T = TypeVar("_T")


@frozen
class Answer:
    """A response with its body read."""

    method: str
    url: str
    status: int
    headers: dict[str, list[str]]
    body: bytes

    @property
    def text(self) -> str:
        """Return the body as text."""
        return self.body.decode("utf-8", "replace")

    @property
    def page(self) -> Page:
        """Return what the page holds."""
        return read_page(self.text, self.url)

    def header(self, name: str) -> str | None:
        """Return the first header of that name."""
        values = self.headers.get(name.lower())
        return values[0] if values else None


@frozen
class Arrival:
    """Where the browser was sent in the end: the client's callback with its parameters."""

    url: str
    parameters: dict[str, str]
    trail: list[Answer] = field(factory=list, repr=False)


class Crowd:
    """People who queue, as at a Keycloak that hashes one password after the other: as long as any of them is
    answered the others wait, however slow the machine; once nobody has been for ``seconds`` all give up.
    """

    def __init__(self, clock: IReactorTime, seconds: float = _PATIENCE) -> None:
        self._clock = clock
        self._seconds = seconds
        self._waiting: set[Deferred[Any]] = set()
        self._timer: IDelayedCall | None = None

    def wait(self, answer: Deferred[_T]) -> Deferred[_T]:
        """Return ``answer``, which fails with an AssertionError where all give up."""
        self._waiting.add(answer)
        self._hope()
        return answer.addBoth(self._came, answer)

    def _came(self, result: _T | Failure, answer: Deferred[_T]) -> _T | Failure:
        if answer not in self._waiting:
            raise AssertionError(f"nobody has been answered for {self._seconds:g} s")
        self._waiting.discard(answer)
        self._hope()
        return result

    def _hope(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._waiting:
            self._timer = self._clock.callLater(self._seconds, self._give_up)

    def _give_up(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for answer in waiting:
            answer.cancel()


class Browser:
    """One person's browser: a cookie jar that, as browsers do, treats loopback http like https.

    It waits ``timeout`` seconds for an answer, or as long as its ``crowd`` does.
    """

    def __init__(self, reactor: Any, *, timeout: float = _PATIENCE, crowd: Crowd | None = None) -> None:
        policy = DefaultCookiePolicy(secure_protocols=("http", "https"))
        self.cookies = IndexableCookieJar(policy=policy)
        self._http = HTTPClient(Agent(reactor), cookiejar=self.cookies)
        self._reactor = reactor
        self._timeout = None if crowd is not None else timeout
        self._crowd = crowd

    async def request(self, method: str, url: str, **options: Any) -> Answer:
        """Make one request, following nothing."""
        asking = Deferred.fromCoroutine(self._ask(method, url, **options))
        return await (asking if self._crowd is None else self._crowd.wait(asking))

    async def _ask(self, method: str, url: str, **options: Any) -> Answer:
        headers = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", **options.pop("headers", {})}
        response = await self._http.request(
            method,
            url,
            headers=headers,
            allow_redirects=False,
            reactor=self._reactor,
            timeout=self._timeout,
            **options,
        )
        found = {
            name.decode("ascii").lower(): [value.decode("latin-1") for value in values]
            for name, values in response.headers.getAllRawHeaders()
        }
        return Answer(method, url, response.code, found, await response.content())

    async def listen(self, url: str, **headers: str) -> tuple[int, Deferred[bytes]]:
        """Open an event stream: the status, and what has come when it ends, which fails where it is cut."""
        response = await self._http.request(
            "GET",
            url,
            headers={"Accept": "text/event-stream", **headers},
            reactor=self._reactor,
            timeout=self._timeout,
            unbuffered=True,
        )
        return response.code, response.content()

    async def submit(self, form: Form, *, button: int = 0, **filled: str) -> Answer:
        """Send a form with ``filled`` in place of what its fields held, by the button of that number."""
        fields = {**form.fields, **filled}
        if form.buttons and form.buttons[button][0]:
            name, value = form.buttons[button]
            fields[name] = value
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(form.action))
        return await self.request("POST", form.action, data=fields, headers={"Origin": origin})

    async def log_in(self, url: str, *, until: str, username: str, password: str) -> Arrival:
        """Open ``url``, agree, log in, and return what arrives at the address that starts with ``until``."""
        trail: list[Answer] = []
        answer = await self.request("GET", url)
        while True:
            trail.append(answer)
            target = self.onward(answer)
            if target is not None and target.startswith(until):
                return Arrival(target, dict(parse_qsl(urlsplit(target).query)), trail)
            if len(trail) > _MOST_STEPS:
                raise AssertionError(f"no way to {until}: {[(one.status, one.url) for one in trail]}")
            if target is not None:
                answer = await self.request("GET", target)
                continue
            forms = answer.page.forms
            if answer.status != 200 or not forms:
                raise AssertionError(f"stuck at {answer.status} {answer.url}:\n{answer.text[:2000]}")
            if forms[0].has_password:
                answer = await self.submit(forms[0], username=username, password=password)
            else:
                answer = await self.submit(forms[0])

    @staticmethod
    def onward(answer: Answer) -> str | None:
        """Return where the answer sends the browser by itself."""
        location = answer.header("location")
        if 300 <= answer.status < 400 and location is not None:
            return urljoin(answer.url, location)
        return answer.page.refresh if answer.status == 200 and b"<" in answer.body else None
