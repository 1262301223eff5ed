"""The client on the Go SDK."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.threads import deferToThread

from tests.clients_real.scene import ClientCase
from tests.support.builds import build, cache

_SOURCE = Path(__file__).parent / "drivers" / "go"
#: Seconds for one build: four on an idle machine with a warm module cache.
_BUILD_TIMEOUT = 300


def driver() -> str:
    """Return the built driver; raises SkipTest where it cannot be built."""
    program = str(cache() / "go-driver")
    build(["go", "build", "-o", program, "."], _SOURCE, timeout=_BUILD_TIMEOUT)
    return program


class Go(ClientCase):
    """``github.com/modelcontextprotocol/go-sdk``, which compares ``resource`` and ``iss`` byte for byte."""

    realm = {"access_token_lifespan": 8}

    async def test_go_sdk(self) -> None:
        """From its first request without a token; its tokens are so short that it refreshes each time."""
        done = await self.drive([await deferToThread(driver)])
        self.assert_both_calls(done)
        self.assertEqual(done["logins"], 1)
        self.assertGreaterEqual(self.logged.count("for refresh_token"), 2)
