"""The client on the Go SDK."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.threads import deferToThread

from tests.clients_real.scene import ClientCase, OnKeycloak
from tests.support.builds import INSTALL_TIMEOUT, build, cache

_SOURCE = Path(__file__).parent / "drivers" / "go"


def driver() -> str:
    """Return the built driver; raises SkipTest where it cannot be built."""
    program = str(cache() / "go-driver")
    build(["go", "build", "-o", program, "."], _SOURCE, timeout=INSTALL_TIMEOUT)
    return program


class Go(ClientCase):
    """``github.com/modelcontextprotocol/go-sdk``, which compares ``resource`` and ``iss`` byte for byte."""

    #: So short that the SDK refreshes before each request.
    realm = {"access_token_lifespan": 8}
    refreshes = 2

    async def test_go_sdk(self) -> None:
        """From its first request without a token, over a restart."""
        done = await self.drive([await deferToThread(driver)])
        self.assert_both_calls(done)
        self.assertEqual(done["logins"], 1)
        self.assertGreaterEqual(self.logged.count("for refresh_token"), self.refreshes)


class GoOnKeycloak(OnKeycloak, Go):
    """The same on a real Keycloak, whose tokens outlive the test."""

    refreshes = 0
