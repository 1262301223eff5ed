"""``python -m bench.logins``: what registrations, logins and refreshes cost the proxy and its store.

CPU time, as everywhere in the bench: of the proxy's processes and of Redis, divided by what they did. The
browser, the client and the identity provider run on the other core and are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import secrets
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import httpx2
from attrs import define, frozen
from redis import Redis

from bench import provider
from bench.children import Child, free_port
from bench.errors import BenchError, WrongAnswer
from bench.machine import Cores, choose_cores, facts
from bench.procfs import cpu_seconds, memory_bytes
from bench.program import run
from bench.world import accepts
from mcp_oauth2_proxy.demo.client import CALLBACK, HeadlessBrowser
from mcp_oauth2_proxy.demo.exchange import Exchange

#: Clients that do the same at the same time: so the event loop has more than one thing to do at a turn.
AT_ONCE = 8
#: Logins before the first one that counts.
WARM_UP = 40
_PREFIX = "MCP_OAUTH2_PROXY_"


@frozen
class Running:
    """The proxy, and Redis where there is one."""

    base_url: str
    proxy: int
    redis: int | None
    redis_port: int | None

    def used(self) -> tuple[float, float]:
        """Return the CPU seconds of proxy and store so far."""
        return cpu_seconds(self.proxy), cpu_seconds(self.redis) if self.redis is not None else 0.0

    def kept(self) -> float:
        """Return the bytes of data in Redis."""
        if self.redis_port is None:
            return 0.0
        client: Redis = Redis("127.0.0.1", self.redis_port)
        with client:
            info: Mapping[str, int] = client.info("memory")
            return float(info["used_memory_dataset"])


@frozen
class Figure:
    """What one operation cost: milliseconds of the proxy's and of the store's CPU, and bytes in the store."""

    proxy: float
    store: float
    kept: float


@contextmanager
def running(cores: Cores, store: str, workers: int) -> Iterator[Running]:
    """Start provider, store and proxy; all of it is stopped and removed at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcp-oauth2-proxy-bench-")))
        environment = {"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin:/bin"}

        def start(name: str, command: Sequence[str], port: int, core: int, **more: str) -> int:
            child = Child(command, core=core, log=folder / f"{name}.log", environment={**environment, **more})
            stack.enter_context(child).wait_until(accepts(port))
            return child.pid

        realm, port = free_port(), free_port()
        start("realm", [sys.executable, "-m", "bench.provider", str(realm)], realm, cores.load)
        redis = redis_port = None
        url = "memory://"
        if store == "redis":
            program = shutil.which("redis-server")
            if program is None:
                raise BenchError("redis-server is not installed (apt-get install redis-server)")
            redis_port = free_port()
            options = ["--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
            redis = start("redis", [program, *options], redis_port, cores.load)
            url = f"redis://127.0.0.1:{redis_port}"
        elif store == "sqlite":
            url = f"sqlite://{folder}/store.db"
        unlimited = {
            f"LIMITS_{name}{reach}": "1000000/1m"
            for name in ("REGISTER", "AUTHORIZE", "TOKEN")
            for reach in ("PERADDRESS", "TOTAL")
        }
        settings = {
            "SERVER_LISTENADDRESS": f"127.0.0.1:{port}",
            "SERVER_WORKERS": str(workers),
            "UPSTREAM_URL": f"http://127.0.0.1:{realm}",
            "AUTH_BASEURL": f"http://127.0.0.1:{port}",
            "AUTH_ISSUERURL": f"http://127.0.0.1:{realm}/realms/{provider.REALM}",
            "AUTH_CLIENTID": provider.CLIENT_ID,
            "AUTH_CLIENTSECRET": provider.CLIENT_SECRET,
            "AUTH_OIDCSCOPES": "openid,profile,email",
            "STORE_URL": url,
            **unlimited,
        }
        named = {_PREFIX + name: value for name, value in settings.items()}
        proxy = start("proxy", [sys.executable, "-m", "mcp_oauth2_proxy", "serve"], port, cores.peer, **named)
        yield Running(f"http://127.0.0.1:{port}", proxy, redis, redis_port)


@define
class Installation:
    """One client: its registration, and once it has logged in its refresh token."""

    http: httpx2.AsyncClient
    base_url: str
    client_id: str = ""
    refresh_token: str = ""

    async def register(self) -> None:
        """Register as a public client."""
        wanted = {
            "client_name": "Bench",
            "redirect_uris": [CALLBACK],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "none",
        }
        answer = await self.http.post(f"{self.base_url}/oauth/register", json=wanted)
        self.client_id = _checked(answer, 201)["client_id"]

    async def log_in(self) -> None:
        """Log a person in who has never been here: consent page, the realm's form, callback, code, tokens."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "state": secrets.token_urlsafe(16),
        }
        browser = HeadlessBrowser(provider.USER.username, provider.USER.password, _nobody)
        await browser.open(f"{self.base_url}/oauth/authorize?{urlencode(parameters)}")
        arrived = await browser.callback()
        await self._token(
            grant_type="authorization_code",
            code=arrived.code,
            redirect_uri=CALLBACK,
            code_verifier=verifier,
        )

    async def refresh(self) -> None:
        """Use the refresh token, and keep its successor."""
        await self._token(grant_type="refresh_token", refresh_token=self.refresh_token)

    async def _token(self, **form: str) -> None:
        answer = await self.http.post(
            f"{self.base_url}/oauth/token", data={"client_id": self.client_id, **form}
        )
        self.refresh_token = _checked(answer, 200)["refresh_token"]


def _nobody(_: Exchange) -> None:
    """Observe nothing."""


def _checked(answer: httpx2.Response, status: int) -> Mapping[str, str]:
    if answer.status_code != status:
        raise WrongAnswer(f"{answer.request.url.path}: {answer.status_code} {answer.text[:200]}")
    found: Mapping[str, str] = answer.json()
    return found


async def _all(
    installations: Sequence[Installation], step: Callable[[Installation], Awaitable[None]]
) -> None:
    """Have each of them take one step, some at a time."""
    waiting = iter(installations)

    async def one_after_the_other() -> None:
        for installation in waiting:
            await step(installation)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other())


#: What is measured: a title, and how an installation does it. Each begins where the one before has ended.
STEPS: Mapping[str, Callable[[Installation], Awaitable[None]]] = {
    "registration": Installation.register,
    "login, from authorize to tokens": Installation.log_in,
    "refresh": Installation.refresh,
}


async def measure(there: Running, count: int, rounds: int) -> dict[str, list[Figure]]:
    """Return the figures of each step, one a round of ``count`` clients."""
    figures: dict[str, list[Figure]] = {title: [] for title in STEPS}
    async with httpx2.AsyncClient(timeout=30) as http:
        for number in range(rounds + 1):
            size = count if number else WARM_UP
            installations = [Installation(http, there.base_url) for _ in range(size)]
            for title, step in STEPS.items():
                before, kept = there.used(), there.kept()
                await _all(installations, step)
                proxy, store = (now - then for now, then in zip(there.used(), before, strict=True))
                if number:
                    figure = Figure(
                        proxy / size * 1e3, store / size * 1e3, (there.kept() - kept) / size / 1024
                    )
                    figures[title].append(figure)
    return figures


def table(figures: Mapping[str, Sequence[Figure]]) -> str:
    """Return the Markdown table: medians over the rounds."""
    lines = [
        "| what | proxy, CPU ms | of these a core does a second | store, CPU ms | store, KB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for title, rounds in figures.items():
        proxy = median(one.proxy for one in rounds)
        store = median(one.store for one in rounds)
        kept = median(one.kept for one in rounds)
        lines.append(f"| {title} | {proxy:.2f} | {1000 / proxy:.0f} | {store:.2f} | {kept:.1f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure; return 0, or 1 where nothing could be measured or an answer was wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.logins", description="What logins cost.")
    parser.add_argument("--clients", type=int, default=200, help="clients of each round (default: 200)")
    parser.add_argument("--rounds", type=int, default=3, help="the table shows their median (default: 3)")
    parser.add_argument("--store", choices=("redis", "sqlite", "memory"), default="redis")
    parser.add_argument("--workers", type=int, default=1, help="server.workers (default: 1)")
    chosen = parser.parse_args(arguments)
    cores = choose_cores()
    try:
        with running(cores, chosen.store, chosen.workers) as there:
            figures = asyncio.run(measure(there, chosen.clients, chosen.rounds))
            memory = memory_bytes(there.proxy)
    except (BenchError, ExceptionGroup) as error:
        print(f"no result: {error}", file=sys.stderr)
        return 1
    for name, value in facts(cores).items():
        print(f"{name}: {value}")
    print(f"store: {chosen.store}; the proxy's memory afterwards: {memory / 2**20:.0f} MiB\n")
    print(table(figures))
    return 0


if __name__ == "__main__":
    run(main)
