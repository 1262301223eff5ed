"""A peer that vanishes without a word is noticed: shown where a test may have a network of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

#: util-linux's unshare(1): a network namespace, and the right to arrange it.
ALONE = ("unshare", "--map-root-user", "--net")
#: What must be permitted: a pair of virtual cables.
PROBE = ("ip", "link", "add", "here", "type", "veth", "peer", "name", "there")


class Vanished(SynchronousTestCase):
    """In a namespace, so that nothing of this machine's network is touched."""

    def test_in_a_network_of_its_own(self) -> None:
        """Keep-alive ends a quiet stream, the user timeout a busy one; a lost upstream cuts its reader."""
        for tool in (ALONE[0], PROBE[0]):
            if shutil.which(tool) is None:
                raise SkipTest(f"peers cannot vanish here: there is no {tool}")
        probed = subprocess.run([*ALONE, *PROBE], capture_output=True, text=True, check=False)
        if probed.returncode:
            raise SkipTest(f"peers cannot vanish here: {probed.stderr.strip()}")
        program = (sys.executable, "-m", "tests.run", "tests.wire.vanishing")
        run = subprocess.run([*ALONE, *program], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
