"""Both replicas are restarted and reloaded under load, one after the other, and nobody notices."""

from __future__ import annotations

import sys

from twisted.trial.unittest import TestCase

from tests.support.nginx import nginx
from tests.support.program import Program
from tests.support.redis import redis_server

_PATIENCE = 240


class RollingRestart(TestCase):
    """An operator's deployment of a new version, at noon."""

    timeout = _PATIENCE + 30

    def test_no_request_fails(self) -> None:
        """Not a call, a refresh or a login fails, streams go on where they were; SIGTERM ends with 0."""
        nginx()
        redis_server()
        program = Program([sys.executable, "-m", "tests.chaos", "--rolling", "1"])
        self.addCleanup(program.kill)
        self.assertEqual(program.wait(_PATIENCE), 0, program.output)
        self.assertIn("exit codes: [0, 0]", program.output)
        self.assertIn("all rules held", program.output)
