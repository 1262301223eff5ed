"""Brings the realm's logout tokens to the proxy, and notes when each has been taken.

The realm does not repeat a logout that was answered 503 or not at all; what is promised counts from the
moment at which it says yes, so the courier repeats it until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from twisted.internet.defer import Deferred, gatherResults
from twisted.web.resource import Resource
from twisted.web.server import Request

from tests.chaos.history import LoggedOut
from tests.chaos.http import Lost, Watched
from tests.keycloak_contract.harness import unverified

if TYPE_CHECKING:
    from tests.chaos.world import World

#: Seconds between two attempts.
_PAUSE = 0.5


class Courier(Resource):
    """What the realm knows as the proxy's back-channel logout URL."""

    isLeaf = True

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._http = Watched(world, "courier")
        self._under_way: set[Deferred[None]] = set()
        self.delivered = 0

    def render_POST(self, request: Request) -> bytes:
        """Take a logout token from the realm, which need not wait."""
        assert request.content is not None
        (token,) = parse_qs(request.content.read().decode())["logout_token"]
        delivering = Deferred.fromCoroutine(self._deliver(token))
        self._under_way.add(delivering)
        delivering.addBoth(lambda _: self._under_way.discard(delivering))
        return b""

    async def _deliver(self, token: str) -> None:
        sid = unverified(token)[1]["sid"]
        url = f"{self._world.base_url}/oauth/backchannel-logout"
        may_be_used = False
        while not self._world.stopping:
            try:
                answer = await self._http.request("POST", url, data={"logout_token": token})
            except Lost:
                may_be_used = True
            else:
                # Its second use is refused; that tells that the first, whose answer was lost, was taken.
                if answer.status == 200 or (answer.status == 400 and may_be_used):
                    self.delivered += 1
                    self._world.saw(LoggedOut("courier", sid))
                    return
                if answer.status == 400:
                    raise AssertionError(f"a logout was refused: {answer.text}")
            await self._world.sleep(_PAUSE)

    async def finish(self) -> None:
        """Return when nothing is under way any more, which needs a world that is stopping."""
        await gatherResults(list(self._under_way))
