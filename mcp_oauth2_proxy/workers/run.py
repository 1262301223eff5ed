"""The supervisor as a process of its own, for ``serve``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mcp_oauth2_proxy.config.load import Loaded
from mcp_oauth2_proxy.ops.logs import configure_logging
from mcp_oauth2_proxy.ops.signals import stop_on_signals
from mcp_oauth2_proxy.ops.systemd import ServiceManager
from mcp_oauth2_proxy.workers.roster import EXIT_CONFIG
from mcp_oauth2_proxy.workers.supervisor import Supervisor


def supervise(
    loaded: Loaded, workers: int, *, reload: Callable[[], Loaded], descriptors: Sequence[int] = ()
) -> int:
    """Run so many workers until a signal ends them; return the process's exit code, as one process would.

    ``reload`` returns the configuration as it is said when SIGHUP comes. It runs on Twisted's plain reactor:
    there is next to nothing to do.
    """
    from twisted.internet import reactor as installed  # noqa: PLC0415 (it installs itself)

    reactor: Any = installed
    log = loaded.config.log
    configure_logging(log.level, log.format, sys.stdout)
    fatal: list[str] = []

    def stop(message: str) -> None:
        fatal.append(message)
        reactor.callWhenRunning(reactor.stop)

    supervisor = Supervisor(
        loaded,
        workers,
        reactor,
        on_fatal=stop,
        reload=reload,
        descriptors=descriptors,
        manager=ServiceManager.from_environment(os.environ, os.getpid()),
    )
    stop_on_signals(reactor)
    reactor.callWhenRunning(supervisor.startService)
    reactor.addSystemEventTrigger("before", "shutdown", supervisor.stopService)
    reactor.run()
    return EXIT_CONFIG if fatal else 0
