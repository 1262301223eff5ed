"""Part of the suite: a minute where CI=true, else a few seconds. ``make soak`` takes ten minutes."""

from __future__ import annotations

import os
import sys

from twisted.trial.unittest import TestCase

from tests.support.program import Program

#: Seconds of load where nobody says otherwise.
_SHORT, _IN_CI = 5, 60
#: The same traffic each time; ``make soak`` draws another.
_SEED = 1
#: Seconds beyond them for starting, warming up and coming to rest.
_PATIENCE = 150


class Soaking(TestCase):
    """The program, as it is served."""

    def test_all_is_back(self) -> None:
        """After mixed traffic with faults: memory, descriptors, timers and objects are what they were."""
        default = _IN_CI if os.environ.get("CI") == "true" else _SHORT
        seconds = float(os.environ.get("SOAK_SECONDS") or default)
        program = Program([sys.executable, "-m", "tests.soak", f"{seconds:g}", str(_SEED)])
        self.addCleanup(program.kill)
        code = program.wait(seconds + _PATIENCE)
        self.assertEqual(code, 0, program.output)
        self.assertIn("all is back where it was", program.output)

    test_all_is_back.timeout = 3600  # type: ignore[attr-defined]
