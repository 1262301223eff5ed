"""The started program and its store: what goes on while the store is down, and what does not."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from twisted.trial.unittest import TestCase

from tests.service.scene import PATIENCE, Scene, exchange
from tests.support.program import wait_until
from tests.support.proxy import Proxy
from tests.support.redis import RedisServer

PASSWORD = "hunter2hunter2"
REDIRECT = "http://127.0.0.1:5/cb"


class StoreCase(TestCase):
    """Starts the program before a scene; what a client would do is a method each."""

    timeout = 120

    def setUp(self) -> None:
        self.scene = Scene()
        self.addCleanup(self.scene.stop)

    def start(self, *, wait: bool = True, **store: Any) -> Proxy:
        proxy = self.scene.start(wait=wait, store=store, log={"format": "json", "level": "DEBUG"})
        self.addCleanup(proxy.stop)
        return proxy

    def call(self, proxy: Proxy) -> int:
        """Send a request with a good token, and return the answer's status."""
        token = f"Authorization: Bearer {self.scene.token()}\r\n"
        return exchange(proxy.port, f"GET /mcp HTTP/1.1\r\nHost: h\r\n{token}\r\n".encode())[0]

    def register(self, proxy: Proxy) -> str:
        """Register a public client and return its ``client_id``."""
        wanted = {"redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none"}
        status, _, body = self.post(proxy, "/oauth/register", "application/json", json.dumps(wanted))
        self.assertEqual(status, 201, body)
        client_id: str = json.loads(body)["client_id"]
        return client_id

    def redeem(self, proxy: Proxy, client_id: str) -> tuple[int, bytes, str]:
        """Redeem a code that was never issued; return status, head and the error's code."""
        form = {
            "grant_type": "authorization_code",
            "code": "a" * 43,
            "client_id": client_id,
            "redirect_uri": REDIRECT,
            "code_verifier": "v" * 43,
        }
        kind = "application/x-www-form-urlencoded"
        status, head, body = self.post(proxy, "/oauth/token", kind, urlencode(form))
        return status, head, json.loads(body)["error"]

    def post(self, proxy: Proxy, path: str, kind: str, body: str) -> tuple[int, bytes, bytes]:
        head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
        return exchange(proxy.port, f"{head}\r\n\r\n{body}".encode())

    def wait_for_readiness(self, proxy: Proxy, status: int) -> str:
        """Return what ``/readyz`` says once it has this status."""
        wait_until(lambda: proxy.readiness()[0] == status, f"/readyz is {status}", PATIENCE, proxy.program)
        return proxy.readiness()[1]

    def outage(self, proxy: Proxy, client_id: str) -> None:
        """The store is down: logins are told so at once, and everything else goes on."""
        self.assertTrue(self.wait_for_readiness(proxy, 503).startswith("store: "))
        proxy.program.wait_for("the store is down: ", PATIENCE)
        before = len(self.refusals(proxy))
        for _ in range(5):
            status, head, error = self.redeem(proxy, client_id)
            self.assertEqual((status, error), (503, "temporarily_unavailable"))
            self.assertIn(b"\r\nretry-after: ", head.lower())
            self.assertEqual(self.call(proxy), 200)
            self.assertEqual(proxy.health(), (200, "ok"))
        wait_until(lambda: len(self.refusals(proxy)) == before + 5, "the log tells why", PATIENCE)
        # Nobody has waited for it: who does is told that it did not answer.
        self.assertEqual(
            {why.partition(":")[0] for why in self.refusals(proxy)[before:]}, {"the store is down"}
        )
        self.register(proxy)  # needs no store

    def refusals(self, proxy: Proxy) -> list[str]:
        """Return why codes could not be looked up so far, as the log tells it."""
        return [
            line["detail"]
            for line in proxy.log_lines()
            if line.get("reason") == "store_unavailable" and "detail" in line
        ]

    def recovered(self, proxy: Proxy, client_id: str) -> None:
        """The store is back: so is everything, by itself."""
        self.wait_for_readiness(proxy, 200)

        def redeemed() -> bool:
            return self.redeem(proxy, client_id)[::2] == (400, "invalid_grant")

        # Where a store is given half a second, one that is slow for once is no outage.
        wait_until(redeemed, "codes are looked up", PATIENCE, proxy.program)
        self.assertEqual(self.call(proxy), 200)


class Redis(StoreCase):
    """A Redis that goes away in every way there is."""

    def setUp(self) -> None:
        super().setUp()
        self.server = RedisServer(password=PASSWORD)
        self.addCleanup(self.server.stop)
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.server.port}"

    def test_killed_and_restarted(self) -> None:
        """Redis dies: no login, but verified tokens are served; Redis returns: logins too, within seconds."""
        proxy = self.start(url=self.url)
        client_id = self.register(proxy)
        self.recovered(proxy, client_id)
        self.server.kill()
        self.outage(proxy, client_id)
        self.server.start()
        self.recovered(proxy, client_id)
        self.assertEqual(proxy.stop(), 0)
        self.assertNotIn(PASSWORD, proxy.output)
        told = [line["message"] for line in proxy.log_lines() if "the store" in line["message"]]
        self.assertEqual(len([line for line in told if line.startswith("the store is down: ")]), 1, told)
        self.assertEqual(told[-1], "the store answers again")

    def test_hanging(self) -> None:
        """Redis accepts and says nothing: the wait is bounded, and soon there is none."""
        proxy = self.start(url=self.url, timeout="500ms")
        client_id = self.register(proxy)
        self.recovered(proxy, client_id)
        self.server.pause()
        self.addCleanup(self.server.resume)
        self.assertEqual(self.redeem(proxy, client_id)[::2], (503, "temporarily_unavailable"))
        self.outage(proxy, client_id)
        self.server.resume()
        self.recovered(proxy, client_id)

    def test_away_from_the_beginning(self) -> None:
        """A proxy that starts before its Redis serves tokens already, and becomes ready when it is there."""
        self.server.kill()
        proxy = self.start(wait=False, url=self.url)
        proxy.wait_until_alive()
        wait_until(lambda: self.call(proxy) == 200, "tokens are served", PATIENCE, proxy.program)
        self.outage(proxy, self.register(proxy))
        self.server.start()
        self.recovered(proxy, self.register(proxy))

    def test_stopping_while_it_hangs(self) -> None:
        """SIGTERM ends the program in time though its store says nothing."""
        proxy = self.start(url=self.url)
        self.server.pause()
        self.addCleanup(self.server.resume)
        self.assertEqual(self.redeem(proxy, self.register(proxy))[0], 503)
        self.assertEqual(proxy.stop(), 0)


class Sqlite(StoreCase):
    """A file whose place is not there yet."""

    def test_a_directory_that_comes_later(self) -> None:
        """The log and ``/readyz`` say what is wrong with the path; once it is there all is well."""
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory) / "later"
            proxy = self.start(wait=False, url=f"sqlite://{place}/store.db")
            proxy.wait_until_alive()
            wait_until(lambda: self.call(proxy) == 200, "tokens are served", PATIENCE, proxy.program)
            self.outage(proxy, self.register(proxy))
            self.assertIn("No such file or directory", proxy.readiness()[1])
            place.mkdir()
            self.recovered(proxy, self.register(proxy))
            self.assertEqual(proxy.stop(), 0)
            self.assertEqual([path.name for path in place.iterdir()], ["store.db"])
