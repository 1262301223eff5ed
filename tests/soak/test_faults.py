"""Ten thousand exchanges over real sockets, with faults at every edge, and what is left of them."""

from __future__ import annotations

import gc
import time
from collections import Counter
from typing import Any

from attrs import evolve, frozen
from twisted.trial.unittest import TestCase

from mcp_oauth2_proxy.config.model import Upstream
from mcp_oauth2_proxy.gate.endings import Endings
from mcp_oauth2_proxy.gate.gate import Gate
from mcp_oauth2_proxy.gate.policy import Policy
from mcp_oauth2_proxy.relay.client import RelayClient
from mcp_oauth2_proxy.relay.proxy import ProxyResource
from mcp_oauth2_proxy.wire.agent import WireAgent
from mcp_oauth2_proxy.wire.site import WireSite
from tests.relay.scripted import ScriptedRealm, configuration
from tests.soak.left import descriptors, objects, timers
from tests.soak.traffic import Traffic
from tests.support.keys import access_claims, key_set, make_token, rsa_key
from tests.support.reactor import global_reactor
from tests.wire.test_stale import until

EXCHANGES = 10_000
#: What the reactor and the libraries set up once, they have set up after so many.
BEFORE = 300


@frozen
class Left:
    """All that this process has."""

    descriptors: int
    timers: int
    readers: frozenset[Any]
    writers: frozenset[Any]
    objects: Counter[str]

    @classmethod
    def now(cls) -> Left:
        """Return what there is at this moment."""
        reactor = global_reactor()
        readers, writers = frozenset(reactor.getReaders()), frozenset(reactor.getWriters())
        return cls(descriptors(), timers(reactor), readers, writers, objects())


class Faults(TestCase):
    """The relay in this process, so that everything it holds can be counted."""

    timeout = 300

    async def play(self, seed: int, exchanges: int) -> Counter[str]:
        """Let so many exchanges go through a proxy, stop it, and return what came about."""
        reactor = global_reactor()
        token = b"Authorization: Bearer " + make_token(access_claims(now=time.time())).encode()
        traffic = Traffic(reactor, seed, lambda: token)
        config = configuration(upstream=Upstream(url=f"http://127.0.0.1:{traffic.upstream_port}"))
        agent = WireAgent(reactor, connect_timeout=5.0, response_header_timeout=60.0, idle_timeout=1.0)
        proxy = ProxyResource(
            config,
            gate=Gate(Policy.from_config(config), Endings(remember=86400)),
            realm=ScriptedRealm(key_set(rsa_key())),  # type: ignore[arg-type]
            client=RelayClient(agent),
            clock=reactor,
        )
        done: list[str] = []
        site = WireSite(proxy, reactor=reactor, on_done=lambda request: done.append(request.requestId))
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        try:
            await traffic.run(port.getHost().port, lambda number: number < exchanges)
        finally:
            await port.stopListening()
            await traffic.stop()
        await until(lambda: None if site.connections or any(agent._idle.values()) else True)
        self.assertEqual(site.active_requests, 0)
        self.assertEqual(len(done), len(set(done)), "logged more than once")
        self.assertEqual(len(proxy.streams), 0)
        await until(lambda: None if traffic.connections else True)
        return traffic.seen

    async def test_ten_thousand_exchanges(self) -> None:
        """Each comes to what its plan says, is logged once, and leaves nothing open, set or alive."""
        gc.freeze()
        self.addCleanup(gc.unfreeze)
        await self.play(1, BEFORE)
        before = Left.now()
        seen = await self.play(20261128, EXCHANGES)
        for event in ("whole", "bad gateway", "cut"):
            self.assertGreater(seen[event], EXCHANGES // 100, seen)
        self.assertLess(seen["unlucky"], EXCHANGES // 100, seen)
        left = Left.now()
        self.assertEqual(left.objects - before.objects, Counter())
        self.assertEqual(evolve(left, objects=before.objects), before)
