"""``twistd mcp-oauth2-proxy``: the same service as ``mcp-oauth2-proxy serve``, under twistd's reactor."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping
from typing import IO, Any, ClassVar

from twisted.application.service import IServiceCollection
from twisted.internet.interfaces import IReactorCore
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.logfile import LogFile

from mcp_oauth2_proxy.config.load import load_config
from mcp_oauth2_proxy.config.model import Config
from mcp_oauth2_proxy.config.problems import ConfigError
from mcp_oauth2_proxy.ops.logs import log_observer
from mcp_oauth2_proxy.service import ProxyService


class Options(usage.Options):
    """The options after ``twistd mcp-oauth2-proxy``."""

    configuration: Config

    optParameters: ClassVar = [
        ["config", "c", None, "Config file path (default: config.yaml)."],
        ["log-level", None, None, "Log level: DEBUG, INFO, WARN, ERROR, FATAL, PANIC."],
        ["log-format", None, None, "Log format: text, json."],
    ]

    def postOptions(self) -> None:
        """Load the configuration; a wrong one is a usage error, every mistake named."""
        overrides = {
            field: self[option]
            for field, option in (("log.level", "log-level"), ("log.format", "log-format"))
            if self[option]
        }
        try:
            self.configuration = load_config(self["config"], os.environ, overrides).config
        except ConfigError as error:
            raise usage.UsageError("the configuration cannot be used\n" + str(error)) from None


class TwistdProxyService(ProxyService):
    """The service as twistd holds it: it brings its own log observer to twistd's application."""

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
    log_file: IO[str] = LogFile.fromFullPath(path or "twistd.log", rotateLength=None)
    return log_file


def makeService(options: Options) -> TwistdProxyService:
    """Return the service for twistd."""
    from twisted.internet import reactor  # noqa: PLC0415 (twistd has installed it by now)

    config = options.configuration

    def stop(_message: str) -> None:
        # twistd has no way to set its exit code, and a proxy that refused to run must not look as if it
        # had finished: this runs after twistd has cleaned up behind itself.
        atexit.register(os._exit, 2)
        IReactorCore(reactor).stop()

    service = TwistdProxyService(config, reactor, on_fatal=stop)
    stream = _log_stream(getattr(options, "parent", None) or {})
    if stream is not None:
        service.log_observer = log_observer(config.log.level, config.log.format, stream)
    return service
