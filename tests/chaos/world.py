"""Everything there is in a run: the replicas behind nginx, their store, realm and upstream, and the judge."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread

from tests.chaos.courier import Courier
from tests.chaos.gate import Gate
from tests.chaos.history import Event, History, Moment, Note, Relayed
from tests.chaos.invariants import Referee, Violation
from tests.chaos.provider import Provider
from tests.chaos.replicas import Replica
from tests.chaos.upstream import Upstream
from tests.support.keycloak import CREDENTIALS as C
from tests.support.nginx import Nginx
from tests.support.program import free_port
from tests.support.redis import RedisServer
from tests.support.site import ClosingSite

#: Seconds of one tick of the suite's own clock.
_TICK = 0.1


class Pace:
    """Seconds that this process was let run: on a busy machine fewer than pass outside."""

    def __init__(self, reactor: Any) -> None:
        self._seconds = 0.0
        self._beat = LoopingCall.withCount(self._tick)
        self._beat.clock = reactor
        self._beat.start(_TICK)

    def now(self) -> Moment:
        """Return this moment."""
        return Moment(time.time(), self._seconds)

    def stop(self) -> None:
        """Tick no more."""
        self._beat.stop()

    def _tick(self, count: int) -> None:
        self._seconds += _TICK * min(count, 2)  # a tick that was missed by much says that nobody ran


@frozen
class Plan:
    """What a run is made of."""

    workers: int = 2
    keycloak: bool = False
    log_level: str = "WARN"
    #: Whether clients go to replicas past nginx as well, which needs a replica that is there.
    direct: bool = True
    #: Whether nginx sends a token to the same replica each time.
    sticky: bool = False
    shutdown_grace: str = "3s"


class World:
    """A running whole. ``say`` gets a line for whoever watches; violations are told at once."""

    def __init__(self, reactor: Any, plan: Plan, say: Callable[[str], None]) -> None:
        self.reactor = reactor
        self.plan = plan
        self.say = say
        self.pace = Pace(reactor)
        self.began = self.pace.now()
        self.history = History(self.began)
        self.referee = Referee()
        self.stopping = False
        #: Whether everything has worked once.
        self.warm = False
        self.replicas: list[Replica] = []
        self._ends: list[Callable[[], Awaitable[Any]]] = []

    async def start(self) -> None:
        """Start everything; returns once all of it works."""
        reactor, ends = self.reactor, self._ends
        self.redis: RedisServer = await deferToThread(
            RedisServer, "--appendonly", "yes", "--appendfsync", "always"
        )
        ends.append(lambda: deferToThread(self.redis.stop))
        self.provider = await Provider.start(reactor, keycloak=self.plan.keycloak)
        ends.append(self.provider.stop)
        self.realm = Gate(reactor, self.provider.port)
        ends.append(self.realm.shut)
        site = ClosingSite(Upstream(reactor, self._relayed), reactor)
        self.upstream = Gate(reactor, site.listen())
        ends += [site.close, self.upstream.shut]
        front = free_port()
        self.base_url = f"http://127.0.0.1:{front}"
        courier = Courier(self)
        door = ClosingSite(courier, reactor)
        ends += [door.close, courier.finish]
        await self.provider.announce_logouts(f"http://127.0.0.1:{door.listen()}/")
        self.replicas = [Replica(name, self._configuration()) for name in ("one", "two")]
        for replica in self.replicas:
            ends.append(replica.kill)
            await replica.start()
        ports = [replica.port for replica in self.replicas]
        self.nginx: Nginx = await deferToThread(Nginx, ports, front, sticky=self.plan.sticky)
        ends.append(lambda: deferToThread(self.nginx.stop))

    async def stop(self) -> None:
        """End everything that was started, the latest first."""
        self.stopping = True
        while self._ends:
            await self._ends.pop()()
        self.pace.stop()

    def _configuration(self) -> dict[str, Any]:
        server: dict[str, Any] = {
            "shutdownGrace": self.plan.shutdown_grace,
            "trustedProxies": ["127.0.0.1"],
        }
        if self.plan.workers > 1:
            server["workers"] = self.plan.workers
        limits = (
            f"{name}{reach}"
            for name in ("register", "authorize", "token")
            for reach in ("PerAddress", "Total")
        )
        return {
            "server": server,
            "upstream": {
                "url": f"http://127.0.0.1:{self.upstream.port}",
                "connectTimeout": "2s",
                "responseHeaderTimeout": "3s",
            },
            "auth": {
                "baseUrl": self.base_url,
                "issuerUrl": f"http://127.0.0.1:{self.realm.port}/realms/{C.realm}",
                "clientId": C.client_id,
                "clientSecret": C.client_secret,
                "oidcScopes": ["openid"],
            },
            "store": {"url": f"redis://127.0.0.1:{self.redis.port}"},
            # Everybody here has one address.
            "limits": dict.fromkeys(limits, "1000000/1m"),
            "log": {"level": self.plan.log_level, "format": "json"},
        }

    def _relayed(self, nonce: str, token: str) -> None:
        self.saw(Relayed("upstream", nonce, token))

    def saw(self, event: Event) -> Moment:
        """Remember an event and have it judged; return when it was."""
        at = self.pace.now()
        self.history.add(at, event)
        violation = self.referee.observe(at, event)
        if violation is not None:
            self.say(f"VIOLATION: {violation.rule}: {event}")
        return at

    @property
    def ways(self) -> tuple[str, ...]:
        """Return where clients send requests: mostly the front, and each replica."""
        replicas = (one.name for one in self.replicas) if self.plan.direct else ()
        return ("nginx", "nginx", "nginx", *replicas)

    def by(self, via: str, url: str) -> str:
        """Return a URL of the proxy as it is reached by way of ``nginx``, or of the replica of that name."""
        if via == "nginx":
            return url
        replica = next(one for one in self.replicas if one.name == via)
        return replica.base_url + url.removeprefix(self.base_url)

    def place(self, url: str) -> str:
        """Return by way of what a URL reaches the proxy; empty where it does not."""
        places = {self.base_url: "nginx", **{one.base_url: one.name for one in self.replicas}}
        return next((name for base, name in places.items() if url.startswith(f"{base}/")), "")

    def note(self, text: str) -> None:
        """Remember what is done to the parts."""
        self.saw(Note("chaos", text))
        self.say(f"{time.time() - self.began.wall:7.1f} {text}")

    def sleep(self, seconds: float) -> Deferred[None]:
        """Return what fires after so many seconds."""
        return deferLater(self.reactor, seconds)

    def told(self, violation: Violation) -> str:
        """Return a violation with what happened around it."""
        lines = self.history.around(violation.at, before=12, after=1)
        return "\n".join((f"{violation.rule}", f"  {violation.event}", *(f"  {line}" for line in lines)))
