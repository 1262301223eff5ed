"""Names to addresses, by the system's resolver, in threads of its own.

Twisted's resolver shares its threads with the rest of the process: names that strangers chose, with name
servers that take their time, would keep Keycloak's name waiting.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import DNSLookupError
from twisted.python.failure import Failure

#: Lookups under way at once. One that hangs keeps its place until the system gives up, in half a minute.
MAX_LOOKUPS = 32


class Lookup:
    """``lookup(host)`` returns a Deferred of the numeric addresses, IPv4 first."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._under_way = 0

    def __call__(self, host: str) -> Deferred[list[str]]:
        """Fails with :exc:`DNSLookupError` where there is no address, or no thread to spare."""
        if self._under_way >= MAX_LOOKUPS:
            return fail(DNSLookupError("too many names are being looked up"))
        self._under_way += 1
        found: Deferred[list[str]] = Deferred(lambda _: None)
        # A daemon: a name server that does not answer must not keep a stopping process alive.
        threading.Thread(target=self._ask, args=(host, found), daemon=True).start()
        return found

    def _ask(self, host: str, found: Deferred[list[str]]) -> None:
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            answer: list[str] | Failure = [
                str(entry[4][0]) for entry in sorted(entries, key=lambda entry: entry[0] != socket.AF_INET)
            ]
        except (OSError, UnicodeError) as error:
            answer = Failure(DNSLookupError(str(error)))
        self._reactor.callFromThread(self._tell, found, answer)

    def _tell(self, found: Deferred[list[str]], answer: list[str] | Failure) -> None:
        self._under_way -= 1
        if not found.called:
            found.callback(answer)  # a Failure starts the errback chain
