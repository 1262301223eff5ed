"""Part of the suite: a minute where CI=true, else a few episodes. ``make chaos`` takes ten minutes."""

from __future__ import annotations

import os
import sys

from twisted.trial.unittest import TestCase

from tests.support.nginx import nginx
from tests.support.program import Program
from tests.support.redis import redis_server

#: Seconds of faults where nobody says otherwise.
_SHORT, _IN_CI = 15, 60
#: The same faults each time: what fails here has to do with what was changed. ``make chaos`` draws others.
_SEED = "1"
#: Seconds beyond them for starting, and for episodes that end later.
_PATIENCE = 180


class Chaos(TestCase):
    """Replicas behind nginx, with everything around them breaking."""

    def test_rules_hold(self) -> None:
        """Whatever breaks, no rule is broken; the output tells how to run the same again."""
        nginx()
        redis_server()
        default = _IN_CI if os.environ.get("CI") == "true" else _SHORT
        seconds = float(os.environ.get("CHAOS_SECONDS") or default)
        options = ["--seconds", str(seconds), "--seed", os.environ.get("CHAOS_SEED") or _SEED]
        program = Program([sys.executable, "-m", "tests.chaos", *options])
        self.addCleanup(program.kill)
        code = program.wait(seconds + _PATIENCE)
        self.assertEqual(code, 0, program.output)
        self.assertIn("all rules held", program.output)

    test_rules_hold.timeout = 3600  # type: ignore[attr-defined]
