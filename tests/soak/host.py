"""``python -m tests.soak.host CONFIG``: the program as it is served, which also says what it holds."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall

from mcp_oauth2_proxy.config.load import load_config
from mcp_oauth2_proxy.service import ProxyService, run
from tests.soak.left import descriptors, memory, objects, timers

#: Seconds between two lines.
EVERY = 1.0


def main(path: str) -> int:
    """Serve until SIGTERM."""
    config = load_config(path, os.environ).config

    def make(reactor: Any, on_fatal: Callable[[str], None]) -> ProxyService:
        service = ProxyService(config, reactor, on_fatal=on_fatal)

        def tell() -> None:
            document = {
                "descriptors": descriptors(),
                "memory": memory(),
                "objects": objects(),
                "timers": timers(reactor),
                "connections": len(service.site.connections),
            }
            print(f"holds {json.dumps(document)}", flush=True)

        looping = LoopingCall(tell)
        looping.clock = reactor
        reactor.callWhenRunning(looping.start, EVERY)
        return service

    return run(config, make)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
