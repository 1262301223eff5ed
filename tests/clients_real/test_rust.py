"""The client on the Rust SDK."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.threads import deferToThread

from tests.clients_real.scene import ClientCase, OnKeycloak
from tests.support.builds import INSTALL_TIMEOUT, build, cache

_SOURCE = Path(__file__).parent / "drivers" / "rust"


def driver() -> str:
    """Return the built driver; raises SkipTest where it cannot be built."""
    target = cache() / "rust-driver"
    build(
        ["cargo", "build", "--quiet", "--locked", "--target-dir", str(target)],
        _SOURCE,
        timeout=INSTALL_TIMEOUT,
    )
    return str(target / "debug" / "driver")


class Rust(ClientCase):
    """``rmcp``, whose discovery starts at the challenge and insists on PKCE and on ``iss``."""

    async def test_rmcp(self) -> None:
        """From its first request without a token, over a restart, with a refresh before and after it."""
        self.assert_both_calls(await self.drive([await deferToThread(driver)]))
        self.assertEqual(self.logged.count("for refresh_token"), 2)


class RustOnKeycloak(OnKeycloak, Rust):
    """The same on a real Keycloak."""
