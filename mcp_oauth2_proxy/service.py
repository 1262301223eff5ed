"""The running proxy: collaborators are made here, once, and handed their reactor, clock and randomness."""

from __future__ import annotations

import gc
import os
import random
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.tcp import Port
from twisted.logger import Logger

from mcp_oauth2_proxy.app import build_root
from mcp_oauth2_proxy.cimd.fetch import Fetcher
from mcp_oauth2_proxy.cimd.lookup import Lookup
from mcp_oauth2_proxy.config.model import Config
from mcp_oauth2_proxy.facade.facade import Facade
from mcp_oauth2_proxy.facade.sealing import Sealer
from mcp_oauth2_proxy.gate.endings import Endings
from mcp_oauth2_proxy.gate.gate import Gate
from mcp_oauth2_proxy.gate.policy import Policy
from mcp_oauth2_proxy.keycloak.agent import keycloak_http
from mcp_oauth2_proxy.keycloak.introspection import Introspection
from mcp_oauth2_proxy.keycloak.realm import Realm
from mcp_oauth2_proxy.ops.access import AccessLog
from mcp_oauth2_proxy.ops.health import Healthz, Probe, Readyz
from mcp_oauth2_proxy.ops.logs import configure_logging
from mcp_oauth2_proxy.ops.peers import TrustedProxies, plain_address
from mcp_oauth2_proxy.ops.signals import on_signals, stop_on_signals
from mcp_oauth2_proxy.ops.systemd import ServiceManager
from mcp_oauth2_proxy.relay.asking import Asker
from mcp_oauth2_proxy.relay.client import RelayClient
from mcp_oauth2_proxy.relay.proxy import ProxyResource
from mcp_oauth2_proxy.stores.open import open_store
from mcp_oauth2_proxy.wire.agent import WireAgent
from mcp_oauth2_proxy.wire.limits import Limits
from mcp_oauth2_proxy.wire.listening import (
    CannotListen,
    accept_and_close,
    listen,
    name_of,
    open_sockets,
)
from mcp_oauth2_proxy.wire.site import WireSite
from mcp_oauth2_proxy.wire.trust import TrustPolicy

#: Seconds between two looks at whether the last connection has closed, while draining.
DRAIN_POLL = 0.05
#: Objects that come into being before the young ones are looked at for cycles, in place of Python's 700:
#: more than a thousand requests under way have (20 each), so that their coming and going is not looked at.
YOUNG_OBJECTS = 50_000
#: Seconds that the first look at realm and store may take before clients are let in without. Until the keys
#: are there they would be turned away, where a load balancer would find them another replica; and until the
#: endings of sessions are known somebody who is logged out would be let in.
FIRST_LOOK = 3.0


class ProxyService(Service):
    """One proxy, from its listening socket to its upstream connections.

    ``on_fatal`` is called, once, with a readable line when the proxy cannot do its work at all: the
    port is taken, or the realm is not the one that the configuration names. ``descriptors`` are listening
    sockets that the process was handed, in place of one on ``server.listenAddress``. ``others`` says what
    stands in the way of those with whom this process makes a whole, and ``manager`` is who started it.
    Without ``listens_at_once`` it takes connections when :meth:`listen` is called.
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: Any,
        *,
        on_fatal: Callable[[str], None],
        descriptors: Sequence[int] = (),
        others: Probe = lambda: None,
        manager: ServiceManager = ServiceManager(),  # noqa: B008 (this one tells nobody anything)
        listens_at_once: bool = True,
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._on_fatal = on_fatal
        self._descriptors = descriptors
        self._manager = manager
        self._listens_at_once = listens_at_once
        self._hurried = False
        #: Whether everything has come to its end.
        self.drained = False
        self._draining = False
        self._sockets: list[socket.socket] = []
        self._ports: list[Port] = []
        auth = config.auth
        self._keycloak = keycloak_http(reactor, auth.ca_file)
        self._realm = Realm(
            auth,
            http=self._keycloak,
            clock=reactor,
            random=random.SystemRandom(),
            on_fatal=self._fatal,
        )
        self._agent = self._make_agent()
        endings = Endings(remember=config.gate.remember_logouts)
        self._relay = self._make_relay(endings)
        self._documents = Fetcher(
            auth.cimd, reactor=reactor, lookup=Lookup(reactor), tls=TrustPolicy(auth.cimd.ca_file)
        )
        self._store = open_store(config.store, reactor)
        self._facade = Facade(
            config,
            realm=self._realm,
            store=self._store,
            sealer=Sealer.from_config(auth, reactor.seconds),
            clock=reactor,
            fetch=self._documents.get,
            endings=endings,
            on_endings=self._relay.end_ended,
        )
        self._probes = (
            self._unready,
            self._realm.unready,
            self._store.unready,
            self._facade.endings.unready,
        )
        self.site = self._make_site(others)

    def _make_agent(self) -> WireAgent:
        """Return what connects to the upstream."""
        upstream = self._config.upstream
        return WireAgent(
            self._reactor,
            connect_timeout=upstream.connect_timeout,
            response_header_timeout=upstream.response_header_timeout,
            idle_timeout=upstream.idle_timeout,
            tls=TrustPolicy(upstream.ca_file),
        )

    def _make_relay(self, endings: Endings) -> ProxyResource:
        """Return the gate and what is behind it."""
        config, clock = self._config, self._reactor
        policy, asker = Policy.from_config(config), None
        if config.gate.introspect:
            remember = config.gate.introspect
            asker = Asker(Introspection(self._realm.introspect, clock=clock, remember=remember), policy)
        return ProxyResource(
            config,
            gate=Gate(policy, endings),
            realm=self._realm,
            client=RelayClient(self._agent),
            clock=clock,
            asker=asker,
        )

    def _make_site(self, others: Probe) -> WireSite:
        """Return what makes requests of connections, and sends them through the tree."""
        root = build_root(
            self._config.auth.base_url,
            facade=self._facade,
            relay=self._relay,
            healthz=Healthz(),
            readyz=Readyz([*self._probes, others]),
        )
        trusted = TrustedProxies(self._config.server.trusted_proxies)
        return WireSite(
            root,
            reactor=self._reactor,
            limits=Limits.from_config(self._config.server),
            on_done=AccessLog(trusted=trusted),
            many_behind=lambda host: plain_address(host) in trusted,
        )

    def startService(self) -> None:
        """Take the port, look for the realm and at the store, and listen once both were looked at."""
        super().startService()
        try:
            self._sockets = open_sockets(self._config.server.listen_address, self._descriptors)
        except CannotListen as error:
            self._fatal(str(error))
            return
        self._realm.startService()
        self._store.start()
        self._facade.endings.start()
        self._relay.streams.start()
        if self._listens_at_once:
            looks = DeferredList([self._realm.first_look, self._facade.endings.first_look])
            looks.addTimeout(FIRST_LOOK, self._reactor).addBoth(lambda _: self.listen())

    def listen(self) -> None:
        """Take connections from now on."""
        sockets, self._sockets = self._sockets, []
        for listening in sockets:
            with listening:  # the port has a descriptor of its own
                try:
                    listen(listening)
                except CannotListen as error:
                    self._fatal(str(error))
                    return
                self._ports.append(self.adopt(listening))
                self._log.info(
                    "listening on {address}, for {base_url} in front of {upstream}",
                    address=name_of(listening),
                    base_url=self._config.auth.base_url,
                    upstream=self._config.upstream.url,
                )
        if sockets:
            self._manager.ready(self._reactor, lambda: "\n".join(self.reasons()) or "ready")

    def adopt(self, listening: socket.socket) -> Port:
        """Return a port that accepts connections from a socket that listens."""
        port: Port = self._reactor.adoptStreamPort(listening.fileno(), listening.family, self.site)
        return port

    @property
    def listens(self) -> bool:
        """Whether new connections are taken."""
        return bool(self._ports)

    def reasons(self) -> list[str]:
        """Return what stands in the way of this process's readiness, a line each."""
        return [reason for probe in self._probes if (reason := probe()) is not None]

    def stopService(self) -> Deferred[None]:
        """Drain: take no more connections, let requests finish for ``server.shutdownGrace``, then cut.

        Event streams never finish by themselves: those with nothing under way end at once and cleanly,
        so that their clients come back to another replica.
        """
        super().stopService()
        on_signals(self._reactor, [signal.SIGTERM, signal.SIGINT], self.hurry)
        return ensureDeferred(self._drain())

    def hurry(self) -> None:
        """Cut what is under way: whoever stops a process twice does not want to wait."""
        self._hurried = True

    async def _drain(self) -> None:
        self._draining = True
        grace = self._config.server.shutdown_grace
        self._manager.stopping()
        ports, self._ports = self._ports, []
        for port in ports:
            accept_and_close(port)
        for unused in self._sockets:
            unused.close()
        self._sockets = []
        self._log.info(
            "stopping: {requests} requests have {grace} s to finish",
            requests=self.site.active_requests,
            grace=grace,
        )
        self.site.drain()
        self._relay.streams.end_idle()
        deadline = self._reactor.seconds() + grace
        while self._is_busy() and self._reactor.seconds() < deadline and not self._hurried:
            await deferLater(self._reactor, DRAIN_POLL)
            self._relay.streams.end_idle()
        if self.site.active_requests:
            self._log.warn("cutting {requests} requests", requests=self.site.active_requests)
        self.site.abort_all()
        # A connection that is cut ends in the next turn of the event loop. If the process went on to its end
        # now, the upstream's could end first, and the client would be told so: a whole answer, 502.
        await deferLater(self._reactor, 0)
        self._documents.stop()
        if self._realm.running:
            await self._realm.stopService()
        self._agent.closeIdle()
        await self._keycloak.close()
        self._facade.endings.stop()
        self._relay.streams.stop()
        await self._store.close()
        self._manager.stopped()
        self.drained = True
        self._log.info("stopped")

    def _is_busy(self) -> bool:
        # Connections, not requests: an answer that is finished may still be on its way out. And a refresh
        # whose caller has left: cut off from Keycloak's answer it would be a session lost.
        return bool(self.site.connections or self._facade.refresher.under_way)

    def _unready(self) -> str | None:
        return "draining: the process is stopping" if self._draining else None

    def _fatal(self, message: str) -> None:
        self._log.critical("{message}", message=message)
        self._on_fatal(message)


def allow_many_connections() -> None:
    """Use as many file descriptors as the operating system lets us: an open stream takes two.

    The usual soft limit of 1024 is there for programs that use ``select``, which this one does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run(
    config: Config,
    make: Callable[[Any, Callable[[str], None]], ProxyService] | None = None,
    *,
    descriptors: Sequence[int] = (),
    worker: int | None = None,
) -> int:
    """Run the proxy on uvloop until a signal ends it; return the process's exit code.

    0 after SIGTERM or SIGINT, 2 where the configuration turned out to be wrong once it met the world.
    ``make(reactor, on_fatal)`` returns the service, by default one that is alone and listens on what it was
    handed as ``descriptors``; ``worker`` is its number where it is not alone.
    """
    # The reactor must be chosen before anything imports it, and only by the process that owns it.
    from twisted.internet.main import installReactor  # noqa: PLC0415

    from mcp_oauth2_proxy.wire.reactor import WireReactor  # noqa: PLC0415

    reactor = WireReactor()
    installReactor(reactor)
    configure_logging(config.log.level, config.log.format, sys.stdout, soon=reactor.soon, worker=worker)
    allow_many_connections()
    fatal: list[str] = []

    def stop(message: str) -> None:
        fatal.append(message)
        reactor.callWhenRunning(reactor.stop)

    def alone(reactor: Any, on_fatal: Callable[[str], None]) -> ProxyService:
        return ProxyService(
            config,
            reactor,
            on_fatal=on_fatal,
            descriptors=descriptors,
            manager=ServiceManager.from_environment(os.environ, os.getpid()),
        )

    service = (make or alone)(reactor, stop)
    stop_on_signals(reactor)
    reactor.callWhenRunning(service.startService)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    # What is there now stays: without looking at it again and again the collector takes half the time.
    gc.collect()
    gc.freeze()
    # What comes and goes leaves no cycles: a thousand requests under way need not be looked at all the time.
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    reactor.run()
    return 2 if fatal else 0
