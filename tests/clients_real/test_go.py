"""The client on the Go SDK."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from unittest import SkipTest

from twisted.internet.threads import deferToThread

from tests.clients_real.scene import ClientCase

_SOURCE = Path(__file__).parent / "drivers" / "go"
#: Seconds for one build: four on an idle machine with a warm module cache.
_BUILD_TIMEOUT = 300


def driver() -> str:
    """Return the built driver; raises SkipTest where it cannot be built."""
    if shutil.which("go") is None:
        raise SkipTest("no go here")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcp-oauth2-proxy"
    cache.mkdir(parents=True, exist_ok=True)
    program = cache / "go-driver"
    done = subprocess.run(
        # Go's own cache knows whether there is anything to do.
        ["go", "build", "-o", str(program), "."],
        cwd=_SOURCE,
        capture_output=True,
        text=True,
        timeout=_BUILD_TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        raise SkipTest(f"the Go driver cannot be built: {done.stderr.strip()[-300:]}")
    return str(program)


class Go(ClientCase):
    """``github.com/modelcontextprotocol/go-sdk``, which compares ``resource`` and ``iss`` byte for byte."""

    realm = {"access_token_lifespan": 8}

    async def test_go_sdk(self) -> None:
        """From its first request without a token; its tokens are so short that it refreshes each time."""
        program = await deferToThread(driver)
        done = await self.drive([program])
        who = '{"x-user":"alice","authorization":"absent"}'
        self.assertEqual(done["tools"], ["count", "whoami"])
        self.assertEqual(done["counted"], {"text": "counted to 3", "progress": [1, 2, 3]})
        for call in (done["refreshed"], done["again"]):
            self.assertEqual("".join(call["text"].split()), who)
        self.assertEqual(done["logins"], 1)
        self.assertGreaterEqual(self.logged.count("for refresh_token"), 2)
