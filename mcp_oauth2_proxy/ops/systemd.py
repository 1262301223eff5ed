"""What a service manager is told (sd_notify(3)): that the service is up, how it does, and that it goes."""

from __future__ import annotations

import socket
from collections.abc import Callable, MutableMapping
from contextlib import suppress

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

#: Seconds between two looks at whether the status has changed.
STATUS_EVERY = 1.0


class ServiceManager:
    """Tells the process that started this one, where it asked to be told.

    ``address`` is its datagram socket; ``None`` is nobody. ``watchdog`` is the time in seconds within which
    it wants to hear a sign of life, 0 for never.
    """

    def __init__(self, address: str | None = None, watchdog: float = 0.0) -> None:
        self._address = None if address is None else _path(address)
        self._watchdog = watchdog
        self._status = ""
        self._looking: LoopingCall | None = None
        self._living: LoopingCall | None = None

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], pid: int) -> ServiceManager:
        """Return the one that the environment speaks of, and take it out: children have nothing to say.

        ``WATCHDOG_USEC`` counts where ``WATCHDOG_PID`` is this process or missing (sd_watchdog_enabled(3)).
        """
        address = environ.pop("NOTIFY_SOCKET", None)
        microseconds = environ.pop("WATCHDOG_USEC", "")
        meant = environ.pop("WATCHDOG_PID", str(pid)) == str(pid)
        usable = microseconds.isascii() and microseconds.isdecimal() and meant
        return cls(address or None, int(microseconds) / 1e6 if usable else 0.0)

    def ready(self, clock: IReactorTime, status: Callable[[], str]) -> None:
        """The service listens: say so, and from now on ``status()`` whenever it changes.

        Signs of life are sent from the event loop at half the time that is wanted, so that a loop that
        hangs is noticed.
        """
        if self._address is None or self._looking is not None:
            return
        self._tell("READY=1")

        def look() -> None:
            now = status().replace("\n", "; ")
            if now != self._status:
                self._status = now
                self._tell(f"STATUS={now}")

        self._looking = _every(clock, STATUS_EVERY, look)
        if self._watchdog:
            self._living = _every(clock, self._watchdog / 2, lambda: self._tell("WATCHDOG=1"))

    def stopping(self) -> None:
        """The service drains; signs of life go on until the process ends."""
        if self._looking is not None:
            self._looking.stop()
        self._tell("STOPPING=1\nSTATUS=draining")

    def stopped(self) -> None:
        """Nothing more is said."""
        if self._living is not None:
            self._living.stop()

    def _tell(self, text: str) -> None:
        if self._address is None:
            return
        # A manager that is gone, or does not read, is no reason to do anything but serve.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(text.encode(), self._address)


def _every(clock: IReactorTime, seconds: float, call: Callable[[], object]) -> LoopingCall:
    looping = LoopingCall(call)
    looping.clock = clock
    looping.start(seconds)
    return looping


def _path(address: str) -> str:
    """Return the socket's address: a name that begins with ``@`` is in the abstract namespace."""
    return "\0" + address[1:] if address.startswith("@") else address
