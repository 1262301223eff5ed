"""The channel, the gate, the relay and the agent between a client and an upstream in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from mcp_oauth2_proxy.config.model import Action, Mutation, Upstream
from mcp_oauth2_proxy.gate.endings import Endings
from mcp_oauth2_proxy.gate.gate import Gate
from mcp_oauth2_proxy.gate.policy import Policy
from mcp_oauth2_proxy.relay.client import RelayClient
from mcp_oauth2_proxy.relay.proxy import ProxyResource
from mcp_oauth2_proxy.wire.agent import WireAgent
from mcp_oauth2_proxy.wire.site import WireSite
from tests.relay.scripted import ScriptedRealm, configuration
from tests.smuggling.upstream import MARK, Connection
from tests.smuggling.upstream import Upstream as Recorder
from tests.support.keys import NOW, key_set, rsa_key
from tests.wire.transport import Wire

#: Bytes of a request's body that the proxy under test lets through.
MAX_BODY = 1_000_000


class _Endpoint:
    """Connects to the recording upstream."""

    def __init__(self, proxy: MemoryProxy) -> None:
        self._proxy = proxy

    def connect(self, factory: Any) -> Deferred[Any]:
        protocol = factory.buildProtocol(None)
        self._proxy.wires.append((Wire(protocol), self._proxy.upstream.accept()))
        return succeed(protocol)


class MemoryProxy:
    """A proxy whose connections are all in the test's hand."""

    def __init__(self, **server: Any) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.upstream = Recorder(b"a secret of this run")
        self.wires: list[tuple[Wire, Connection]] = []
        mark = Mutation(
            action=Action.ADD, name=MARK.decode("ascii"), value=self.upstream.mark.decode("ascii")
        )
        config = configuration(
            server={"max_body_bytes": MAX_BODY, **server},
            upstream=Upstream(url="http://upstream:3000"),
            mutations=(mark,),
        )
        agent = WireAgent(self.clock, connect_timeout=5, response_header_timeout=300, idle_timeout=4)
        agent._endpoint = lambda key: _Endpoint(self)  # type: ignore[assignment, return-value]
        proxy = ProxyResource(
            config,
            gate=Gate(Policy.from_config(config), Endings(remember=config.gate.remember_logouts)),
            realm=ScriptedRealm(key_set(rsa_key())),  # type: ignore[arg-type]
            client=RelayClient(agent),
            clock=self.clock,
        )
        self.site = WireSite(proxy, reactor=self.clock)

    def client(self) -> Wire:
        """Return a new connection of a client."""
        return Wire(self.site.buildProtocol(None))

    def run(self) -> None:
        """Let the upstream read and answer, until nobody has anything to say."""
        busy = True
        while busy:
            busy = False
            self.clock.advance(0)
            for wire, connection in self.wires:
                if data := wire.taken():
                    busy = True
                    answer = connection.feed(data)
                    if answer.data:
                        wire.receive(answer.data)
                    if answer.hangs_up:
                        wire.close()

    def end(self) -> list[Any]:
        """End every connection; return the timers that are left, of which there should be none."""
        for channel in list(self.site.connections):
            channel.transport.close()  # type: ignore[union-attr]
        for wire, _ in self.wires:
            wire.close()
        return list(self.clock.getDelayedCalls())
