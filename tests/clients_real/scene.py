"""A client in a process of its own, the person who uses it, and the proxy that is restarted under it.

A driver speaks lines of JSON: it writes ``{"authorize": URL}`` and reads ``{"callback": URL}``; it writes
``{"restart": true}`` and reads ``{}`` once the proxy is back; and it ends with ``{"done": ...}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from tests.e2e import flow
from tests.support.browser import Arrival, Browser
from tests.support.builds import INSTALL_TIMEOUT
from tests.support.double import RunningDouble
from tests.support.keycloak import CREDENTIALS as C
from tests.support.keycloak import real_keycloak
from tests.support.program import clean_environment
from tests.support.proxy import Proxy
from tests.support.reactor import global_reactor

#: Seconds that a client may be silent before its test fails.
PATIENCE = 60


class Child(ProcessProtocol):
    """A running client. Lines of its stdout and stderr wait to be read, each by :meth:`line`."""

    def __init__(self) -> None:
        self.output = ""
        self.ended: Deferred[None] = Deferred()
        self._partial = {1: "", 2: ""}
        self._lines: DeferredQueue[str | None] = DeferredQueue()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Take what the client writes."""
        text = data.decode("utf-8", "replace")
        self.output += text
        *lines, self._partial[childFD] = (self._partial[childFD] + text).split("\n")
        for line in lines:
            self._lines.put(line)

    def processEnded(self, reason: Failure) -> None:
        """The client is gone: whoever waits for a line hears it."""
        self._lines.put(None)
        if reason.check(ProcessDone):
            self.output += "\n(ended)"
        self.ended.callback(None)

    async def line(self, pattern: str) -> re.Match[str]:
        """Return the first match of ``pattern`` in the lines that come from now on."""
        while True:
            line = await self._lines.get().addTimeout(PATIENCE, global_reactor())
            if line is None:
                raise AssertionError(f"waited for {pattern!r}, the client ended:\n{self.output}")
            found = re.search(pattern, line)
            if found is not None:
                return found

    def say(self, message: Any) -> None:
        """Write a line of JSON to the client."""
        assert self.transport is not None
        self.transport.write(json.dumps(message).encode() + b"\n")


class OnKeycloak:
    """Puts a real Keycloak, whose tokens live for five minutes, in the place of the embedded provider."""

    def provide(self) -> str:
        """Return the issuer of its realm."""
        return real_keycloak().issuer()


class ClientCase(flow.FlowCase):
    """The embedded identity provider, and clients in processes of their own."""

    timeout = flow.FlowCase.timeout + INSTALL_TIMEOUT
    #: Settings of the provider's realm.
    realm: Mapping[str, Any] = {}

    def setUp(self) -> None:
        #: What the proxies have logged in :meth:`drive`.
        self.logged = ""
        self.issuer = self.provide()

    def provide(self) -> str:
        """Return the issuer of a running identity provider."""
        self.provider = RunningDouble(global_reactor(), **self.realm)
        self.addCleanup(self.provider.stop)
        return self.provider.issuer()

    def spawn(self, command: Sequence[str], **environment: str) -> Child:
        """Start a client, which ends with the test at the latest."""
        child = Child()
        process = global_reactor().spawnProcess(
            child, command[0], list(command), env=clean_environment(**environment)
        )

        def end() -> Deferred[None]:
            if not child.ended.called:
                process.signalProcess("KILL")
            return child.ended

        self.addCleanup(end)
        return child

    async def person(self, url: str) -> Arrival:
        """Log in at an authorization URL and return where that leads to."""
        until = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        browser = Browser(global_reactor())
        return await browser.log_in(url, until=until, username=C.username, password=C.password)

    async def drive(self, command: Sequence[str], **environment: str) -> Mapping[str, Any]:
        """Run a driver from its first request without a token to its end; return what it saw."""
        proxy = await self.proxy()
        child = self.spawn([*command, proxy.mcp_url], **environment)
        while True:
            message = json.loads((await child.line(r'^\{"(authorize|restart|done)".*\}$'))[0])
            if "authorize" in message:
                child.say({"callback": (await self.person(message["authorize"])).url})
            elif "restart" in message:
                before, proxy = proxy, await self.restarted(proxy)
                self.logged += before.output
                child.say({})
            else:
                await deferToThread(proxy.stop)  # then its last words have come
                self.logged += proxy.output
                done: Mapping[str, Any] = message["done"]
                return done

    async def restarted(self, proxy: Proxy) -> Proxy:
        """Return a new process in the place of ``proxy``."""
        self.assertEqual(await deferToThread(proxy.stop), 0)
        return await self.proxy(port=proxy.port)

    def assert_served(self, done: Mapping[str, Any]) -> None:
        """One registration, one login, two refreshes, one restart; tools listed and called, progress seen."""
        who = {"x-user": C.username, "authorization": "absent"}
        self.assertEqual(done["tools"], ["count", "whoami"])
        self.assertEqual((done["counted"]["text"], done["counted"]["progress"]), ("counted to 3", [1, 2, 3]))
        for call in (done["refreshed"], done["again"]):
            structured = call.get("structured") or json.loads(call["text"])
            self.assertEqual(structured, who)
        self.assertEqual((done["registrations"], done["logins"]), (1, 1))
        self.assertEqual(done["tokens"], 3, "one code and two refreshes")

    def assert_both_calls(self, done: Mapping[str, Any]) -> None:
        """What a compiled driver saw: tools, calls with progress, the person's name before and after."""
        self.assertEqual(done["tools"], ["count", "whoami"])
        self.assertEqual(done["counted"], {"text": "counted to 3", "progress": [1, 2, 3]})
        for call in (done["refreshed"], done["again"]):
            self.assertEqual(json.loads(call["text"]), {"x-user": C.username, "authorization": "absent"})
