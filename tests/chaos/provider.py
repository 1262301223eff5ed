"""The identity provider of a run: the embedded one, or a real Keycloak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.threads import deferToThread

from tests.support.double import RunningDouble
from tests.support.keycloak import RealKeycloak, real_keycloak

#: Seconds that an access token is good for: tokens run out all the time.
LIFESPAN = 6


class Provider:
    """A realm whose access tokens are good for :data:`LIFESPAN` seconds, with rotation of refresh tokens."""

    def __init__(self, running: RunningDouble | RealKeycloak) -> None:
        self._running = running
        self.port = urlsplit(running.base_url).port or 80

    @classmethod
    async def start(cls, reactor: Any, *, keycloak: bool) -> Provider:
        """Start one."""
        if not keycloak:
            return cls(RunningDouble(reactor, access_token_lifespan=LIFESPAN))
        real: RealKeycloak = await deferToThread(real_keycloak)
        await deferToThread(real.change_realm, accessTokenLifespan=LIFESPAN)
        return cls(real)

    async def announce_logouts(self, url: str) -> None:
        """Have the realm tell ``url`` of every session that ends."""
        await self._asked(self._running.announce_logouts, url)

    async def end_session(self, sid: str) -> None:
        """End a session as an administrator does."""
        await self._asked(self._running.end_session, sid)

    async def _asked(self, method: Callable[[str], None], argument: str) -> None:
        if isinstance(self._running, RunningDouble):
            method(argument)  # it lives in this thread
        else:
            await deferToThread(method, argument)

    async def stop(self) -> None:
        """End it; a real one is shared, and gone with the process."""
        if isinstance(self._running, RunningDouble):
            await self._running.stop()
