"""The test command: nothing is left out, run twice or counted wrongly, and nothing outlives it."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from twisted.trial.runner import TestLoader
from twisted.trial.unittest import SynchronousTestCase

from tests.lanes import Lane, Outcome, others, tests_of, within
from tests.run import LANES
from tests.support.program import REPOSITORY, Program, clean_environment, wait_until

#: A suite of four parts, each as its name says.
PARTS = {
    "here": """
    def test_passes(self): pass
    def test_is_skipped(self): raise SkipTest("no moon")
""",
    "beside": """
    def test_passes(self): pass
    def test_fails(self): self.fail("a reason " * 3)
    def test_is_skipped(self): raise SkipTest("no moon")
""",
    "quiet": """
    def test_passes(self): print("last, with niceness", os.nice(0))
""",
    "crash": """
    def test_crashes(self): os._exit(7)
""",
    "slow": """
    def test_waits(self): open(os.environ["MARK"], "w").close(); time.sleep(600)
""",
}
COMMAND = """
import sys
from tests.lanes import Lane
from tests.run import main
lanes = (
    Lane("side", ("sample.test_beside", "sample.test_crash", "sample.test_slow")),
    Lane("end", ("sample.test_quiet",), last=True, idle=True),
)
sys.exit(main(sys.argv[1:], lanes))
"""


class Running(SynchronousTestCase):
    """A small suite in lanes."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        (self.directory / "sample").mkdir()
        (self.directory / "sample" / "__init__.py").touch()
        for name, tests in PARTS.items():
            head = "import os, time\nfrom unittest import SkipTest, TestCase\nclass Part(TestCase):"
            (self.directory / "sample" / f"test_{name}.py").write_text(head + tests, encoding="utf-8")

    def start(self, *parts: str) -> Program:
        """Run these parts of the suite by the command."""
        environment = clean_environment(
            PYTHONPATH=f"{REPOSITORY}:{self.directory}", MARK=str(self.directory / "mark")
        )
        names = [f"sample.test_{part}" for part in parts]
        program = Program([sys.executable, "-c", COMMAND, *names], environment=environment)
        self.addCleanup(program.kill)
        return program

    def test_one_sum(self) -> None:
        """The last line counts all lanes, failures and skips are shown, and the code is 1."""
        program = self.start("here", "beside", "quiet")
        self.assertEqual(program.wait(60), 1)
        lines = program.output.splitlines()
        self.assertEqual(lines[-2:], ["skipped 2: no moon", "3 passed, 1 failed, 2 skipped"])
        self.assertIn("a reason " * 3, program.output)
        self.assertIn("sample.test_beside.Part.test_fails", program.output)
        self.assertLess(lines.index("--- side"), lines.index("--- end"))
        self.assertIn("last, with niceness 10", program.output)

    def test_all_is_well(self) -> None:
        """Then the code is 0; a lane without tests is not spoken of."""
        program = self.start("here", "quiet")
        self.assertEqual(program.wait(60), 0, program.output)
        self.assertEqual(program.output.splitlines()[-1], "2 passed, 0 failed, 1 skipped")
        self.assertNotIn("--- side", program.output)

    def test_one_lane_alone(self) -> None:
        """Who asks for what one lane has sees it as it goes on, in the process that was started."""
        program = self.start("quiet")
        self.assertEqual(program.wait(60), 0, program.output)
        self.assertIn("last, with niceness 0", program.output)
        self.assertNotIn("--- end", program.output)

    def test_a_lane_that_crashes(self) -> None:
        """Is a failure, and what it said until then is shown."""
        program = self.start("here", "crash")
        self.assertEqual(program.wait(60), 1)
        self.assertIn("test_crashes", program.output)
        self.assertIn("side: ended with 7 before its tests had", program.output)
        self.assertEqual(program.output.splitlines()[-1], "1 passed, 1 failed, 1 skipped")

    def test_ctrl_c(self) -> None:
        """Ends every lane, at once."""
        program = self.start("here", "slow")
        wait_until((self.directory / "mark").exists, "the lane has begun", 60, program)
        program.wait_for("--- side", 60)
        self.assertEqual(program.stop(signal.SIGINT), 128 + signal.SIGINT)
        self.assertIn("interrupted", program.output)
        wait_until(lambda: not self.survivors(), "the lane's processes are gone", 20)

    def survivors(self) -> list[str]:
        """Return the command lines of processes that run the sample."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if str(self.directory).encode() in path.read_bytes():
                    found.append((path.parent / "cmdline").read_text("utf-8"))
            except OSError:
                continue
        return found


class Plan(SynchronousTestCase):
    """Which test runs where."""

    def test_every_test_runs_once(self) -> None:
        """Lanes have parts of the suite that are there, no two the same; the rest is what none has."""
        packages = [package for lane in LANES for package in lane.packages]
        for package in packages:
            self.assertTrue((REPOSITORY / package.replace(".", "/")).is_dir(), package)
            self.assertEqual([other for other in packages if within(other, package)], [package])
        suite = TestLoader().loadByNames(["tests.structure.test_run", "tests.structure.test_quality"])
        lane = Lane("one", ("tests.structure.test_quality",))
        rest = others(suite, [lane])
        self.assertEqual(
            rest.countTestCases() + sum(lane.has(test.id()) for test in tests_of(suite)),
            suite.countTestCases(),
        )
        self.assertEqual([test.id() for test in tests_of(rest) if lane.has(test.id())], [])

    def test_what_is_asked_for(self) -> None:
        """A package, all above it, or something in it; not one that is only called alike."""
        lane = Lane("some", ("tests.a", "tests.b.test_c"))
        self.assertEqual(lane.names(["tests"]), ["tests.a", "tests.b.test_c"])
        self.assertEqual(lane.names(["tests.a", "tests.b"]), ["tests.a", "tests.b.test_c"])
        self.assertEqual(lane.names(["tests.a.test_x.Case.test_y"]), ["tests.a.test_x.Case.test_y"])
        self.assertEqual(lane.names(["tests.ab", "tests.b.test_cd"]), [])

    def test_nothing_is_no_success(self) -> None:
        """A run in which no test passed has not shown anything."""
        self.assertEqual(Outcome().code, 1)
        self.assertEqual((Outcome(passed=1) + Outcome(failed=1)).code, 1)
