"""``twistd mcp-oauth2-proxy``: the same service as ``mcp-oauth2-proxy serve``, under twistd's reactor."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, ClassVar

from twisted.application.service import IServiceCollection, MultiService, Service
from twisted.logger import ILogObserver
from twisted.python import usage

from mcp_oauth2_proxy.config.load import Loaded, load_config
from mcp_oauth2_proxy.config.problems import ConfigError
from mcp_oauth2_proxy.ops.logs import log_observer
from mcp_oauth2_proxy.ops.systemd import ServiceManager
from mcp_oauth2_proxy.wire.inherited import Inherited
from mcp_oauth2_proxy.wire.listening import CannotListen
from mcp_oauth2_proxy.workers.cpus import worker_count


class Options(usage.Options):
    """The options after ``twistd mcp-oauth2-proxy``."""

    loaded: Loaded
    #: Reads the configuration as it is now; raises :exc:`ConfigError`.
    load: Callable[[], Loaded]
    #: The sockets that were handed over and are to be listened on.
    descriptors: Sequence[int]

    optParameters: ClassVar = [
        ["config", "c", None, "Config file path (default: config.yaml)."],
        ["log-level", None, None, "Log level: DEBUG, INFO, WARN, ERROR, FATAL, PANIC."],
        ["log-format", None, None, "Log format: text, json."],
    ]

    def postOptions(self) -> None:
        """Load the configuration and find its sockets; a wrong one is a usage error, every mistake named."""
        overrides = {
            field: self[option]
            for field, option in (("log.level", "log-level"), ("log.format", "log-format"))
            if self[option]
        }
        self.load = partial(load_config, self["config"], os.environ, overrides)
        try:
            self.loaded = self.load()
        except ConfigError as error:
            raise usage.UsageError("the configuration cannot be used\n" + str(error)) from None
        # Now: twistd may become another process before it starts the service, and Twisted's endpoints, which
        # the proxy imports, take the same variables out of the environment.
        inherited = Inherited.from_environment(os.environ, os.getpid())
        try:
            self.descriptors = (inherited if inherited.descriptors else _taken_by_endpoints()).meant_by(
                self.loaded.config.server.listen_address
            )
        except CannotListen as error:
            raise usage.UsageError(str(error)) from None


class TwistdService(MultiService):
    """What twistd holds: the proxy or its supervisor, with a log observer of its own for twistd."""

    log_observer: ILogObserver | None = None

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Offer the log observer to the application, which asks for it just after this."""
        super().setServiceParent(parent)
        if self.log_observer is not None:
            parent.setComponent(ILogObserver, self.log_observer)  # type: ignore[attr-defined]


def _log_stream(twistd: Mapping[str, Any]) -> IO[str] | None:
    """Return where twistd was told to log, or ``None`` where it was told to use a logger of its own."""
    if twistd.get("syslog") or twistd.get("logger"):
        return None
    path = twistd.get("logfile")
    if path == "-" or (path is None and twistd.get("nodaemon")):
        return sys.stdout
    # Several processes may write to it: each line goes to where the file ends at that moment.
    return Path(path or "twistd.log").open("a", encoding="utf-8")


def _taken_by_endpoints() -> Inherited:
    """Return the sockets that Twisted's endpoints have taken, where something has imported them before.

    That is so at twistd's first start, when it has no cache of its plugins yet and imports them all.
    """
    endpoints = sys.modules.get("twisted.internet.endpoints")
    if endpoints is None:
        return Inherited()
    taken = endpoints._SystemdParser._sddaemon
    return Inherited(taken.inheritedDescriptors(), taken._names)


def makeService(options: Options) -> TwistdService:
    """Return the service for twistd."""
    manager = ServiceManager.from_environment(os.environ, os.getpid())
    from twisted.internet import reactor as installed  # noqa: PLC0415 (twistd has installed it by now)

    reactor: Any = installed
    loaded = options.loaded
    log = loaded.config.log

    def stop(_message: str) -> None:
        # twistd has no way to set its exit code, and a proxy that refused to run must not look as if it
        # had finished: this runs after twistd has cleaned up behind itself.
        atexit.register(os._exit, 2)
        reactor.callWhenRunning(reactor.stop)

    holder = TwistdService()
    stream = _log_stream(getattr(options, "parent", None) or {})
    if stream is not None:
        holder.log_observer = log_observer(log.level, log.format, stream)
    service: Service
    workers = worker_count(loaded.config.server.workers)
    if workers > 1:
        from mcp_oauth2_proxy.workers.supervisor import Supervisor  # noqa: PLC0415

        # They run as those of ``serve`` do, on uvloop: twistd's reactor is the supervisor's.
        output = None if stream is None else (stream.fileno(), 2 if stream is sys.stdout else stream.fileno())
        service = Supervisor(
            loaded,
            workers,
            reactor,
            on_fatal=stop,
            reload=options.load,
            descriptors=options.descriptors,
            manager=manager,
            output=output,
        )
    else:
        from mcp_oauth2_proxy.service import ProxyService  # noqa: PLC0415

        service = ProxyService(
            loaded.config, reactor, on_fatal=stop, descriptors=options.descriptors, manager=manager
        )
    service.setServiceParent(holder)
    return holder
