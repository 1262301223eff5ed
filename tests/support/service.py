"""The service in the test's own process, by a clock that the test can put forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mcp_oauth2_proxy.config.load import load_config
from mcp_oauth2_proxy.config.model import Config
from mcp_oauth2_proxy.service import ProxyService
from tests.support.program import free_port, wait_until
from tests.support.proxy import answers


async def start_service(case: TestCase, reactor: Any, configuration: dict[str, dict[str, Any]]) -> Config:
    """Start it by the clock of ``reactor`` on a free port, ready when this returns, until ``case`` ends.

    What ``configuration`` says of the port and of the grace at the end is not looked at.
    """
    address = f"127.0.0.1:{free_port()}"
    server = {**configuration.get("server", {}), "listenAddress": address, "shutdownGrace": "0s"}
    auth = {**configuration["auth"], "baseUrl": f"http://{address}"}
    path = Path(case.mktemp())
    path.write_text(yaml.safe_dump({**configuration, "server": server, "auth": auth}), encoding="utf-8")
    config = load_config(str(path), {}).config
    service = ProxyService(config, reactor, on_fatal=case.fail)
    service.startService()
    case.addCleanup(service.stopService)
    ready = f"{config.auth.base_url}/readyz"
    await deferToThread(wait_until, lambda: answers(ready), "the service is ready", 30)
    return config
