"""Who is measured: the proxy as its users start it, a Go proxy with a token check, and nginx without one."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import frozen

from bench import go_peer, nginx
from bench.children import Child, free_port
from bench.errors import WrongAnswer
from bench.machine import tool
from bench.realm import CLIENT_ID
from bench.traffic import ANSWER, GET_PATH
from bench.world import World, accepts

#: What nginx and the tuned Go peer keep open to the upstream: more than any load uses.
IDLE_CONNECTIONS = 1024
_PREFIX = "MCP_OAUTH2_PROXY_"


@frozen
class Running:
    """A started peer; ``start`` is the seconds from its exec to its first relayed answer."""

    name: str
    pid: int
    port: int
    start: float


@frozen
class Peer:
    """One contestant. ``command(world, folder, port, upstream)`` returns how it is started."""

    name: str
    title: str
    command: Callable[[World, Path, int, int], Sequence[str]]
    environment: Callable[[World, int, int], Mapping[str, str]] | None = None
    prepare: Callable[[], object] = lambda: None
    checks_tokens: bool = True

    def start(self, stack: ExitStack, world: World, upstream: int) -> Running:
        """Start it in front of the upstream of that port, for as long as ``stack`` lives.

        :raises StartFailed: it does not begin to relay.
        :raises WrongAnswer: it relays a token with a broken signature though it should check them.
        """
        port = free_port()
        folder = world.private(self.name)
        began = time.monotonic()
        child = stack.enter_context(
            Child(
                self.command(world, folder, port, upstream),
                core=world.cores.peer,
                log=folder / "output.log",
                environment=None if self.environment is None else self.environment(world, port, upstream),
            )
        )
        child.wait_until(accepts(port))
        child.wait_until(lambda: status_of(port, world.token) == 200)
        took = time.monotonic() - began
        if self.checks_tokens and status_of(port, broken(world.token)) != 401:
            raise WrongAnswer(f"{self.title} does not check tokens: its figures would not compare")
        return Running(self.name, child.pid, port, took)


def broken(token: str) -> str:
    """Return the token with another signature."""
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{signature[::-1]}"


def status_of(port: int, token: str) -> int:
    """Return the status of one request, 0 where it is 200 with another body than the upstream's."""
    url = f"http://127.0.0.1:{port}{GET_PATH.decode()}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status) if response.read() == ANSWER else 0
    except urllib.error.HTTPError as error:
        return error.code


def _proxy_command(_world: World, _folder: Path, _port: int, _upstream: int) -> Sequence[str]:
    return [sys.executable, "-m", "mcp_oauth2_proxy", "serve"]


def proxy_environment(world: World, port: int, upstream: int) -> Mapping[str, str]:
    """Return the proxy's configuration: the environment alone, every default left as it is."""
    settings = {
        "SERVER_LISTENADDRESS": f"127.0.0.1:{port}",
        "UPSTREAM_URL": f"http://127.0.0.1:{upstream}",
        "HEADERS_MUTATIONS": json.dumps([{"action": "set-x-forwarded"}]),
        "AUTH_BASEURL": f"http://127.0.0.1:{port}",
        "AUTH_ISSUERURL": world.realm.issuer,
        "AUTH_CLIENTID": CLIENT_ID,
        "AUTH_CLIENTSECRET": "only-for-the-bench",
    }
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(_PREFIX)}
    return {**kept, **{_PREFIX + name: value for name, value in settings.items()}}


def _go_command(world: World, _folder: Path, port: int, upstream: int) -> Sequence[str]:
    return [
        str(go_peer.build()),
        f"-listen=127.0.0.1:{port}",
        f"-upstream=http://127.0.0.1:{upstream}",
        f"-jwks={world.realm.discovery()['jwks_uri']}",
        f"-issuer={world.realm.issuer}",
    ]


def _tuned_go_command(world: World, folder: Path, port: int, upstream: int) -> Sequence[str]:
    return [*_go_command(world, folder, port, upstream), f"-idle={IDLE_CONNECTIONS}"]


def _nginx_command(world: World, folder: Path, port: int, upstream: int) -> Sequence[str]:
    configuration = folder / "nginx.conf"
    configuration.write_text(
        nginx.proxy_configuration(folder, port=port, upstream=upstream, files=world.files)
    )
    return [tool("nginx"), "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log")]


PROXY = Peer("proxy", "this proxy", _proxy_command, proxy_environment)
GO = Peer("go", "Go peer", _go_command, prepare=go_peer.build)
TUNED_GO = Peer("go-tuned", "Go, larger pool", _tuned_go_command, prepare=go_peer.build)
NGINX = Peer("nginx", "nginx, no auth", _nginx_command, prepare=lambda: tool("nginx"), checks_tokens=False)
PEERS = (PROXY, GO, TUNED_GO, NGINX)
