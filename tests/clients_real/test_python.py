"""The clients on PyPI: both lines of the official SDK, and FastMCP's."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.internet.threads import deferToThread

from tests.clients_real.scene import ClientCase, OnKeycloak
from tests.support.venvs import python_with

DRIVERS = Path(__file__).parent / "drivers"


class Python(ClientCase):
    """Each from its first request without a token."""

    async def python(self, name: str) -> str:
        """Return the interpreter of the environment of that name."""
        return str(await deferToThread(python_with, DRIVERS / f"{name}.txt"))

    async def test_mcp_2(self) -> None:
        """``mcp`` 2.x, as it is in our own environment."""
        self.assert_served(await self.drive([sys.executable, str(DRIVERS / "python_sdk.py")]))

    async def test_mcp_1(self) -> None:
        """``mcp`` 1.x."""
        self.assert_served(await self.drive([await self.python("mcp1"), str(DRIVERS / "python_sdk.py")]))

    async def test_fastmcp(self) -> None:
        """``fastmcp``, which looks at the authorize URL before it opens a browser."""
        driver = str(DRIVERS / "fastmcp_client.py")
        self.assert_served(await self.drive([await self.python("fastmcp"), driver]))


class PythonOnKeycloak(OnKeycloak, Python):
    """The same on a real Keycloak."""
