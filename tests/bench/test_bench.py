"""The command itself, with the peers that this machine has."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from unittest import SkipTest

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from bench import load
from bench.errors import Missing, WrongAnswer
from bench.machine import choose_cores, raise_file_limit, tool
from bench.peers import NGINX
from bench.traffic import GET_PATH
from bench.world import World, surroundings

REPOSITORY = Path(__file__).parents[2]


def need(*names: str) -> None:
    """Skip the test where a tool is missing, saying how to install it."""
    try:
        for name in names:
            tool(name)
    except Missing as missing:
        raise SkipTest(str(missing)) from None


def command(*options: str) -> list[str]:
    """Return the bench's command line."""
    return [sys.executable, "-m", "bench", *options]


def leftovers(folder: Path) -> list[str]:
    """Return the command lines of processes that mention ``folder`` or work in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            place = str((entry / "cwd").readlink())
        except OSError:
            continue
        if str(folder) in line or str(folder) in place:
            found.append(line)
    return found


class Run(SynchronousTestCase):
    """``python -m bench`` from start to table."""

    def setUp(self) -> None:
        """Give the run a temporary directory of its own, to see that it is left empty."""
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(self.folder.rmdir)
        self.environment = {**os.environ, "TMPDIR": str(self.folder)}

    def bench(self, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*options),
            cwd=REPOSITORY,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def test_prints_the_table_and_leaves_nothing(self) -> None:
        """One short run measures the proxy, prints its row and writes the same figures to the file."""
        need("wrk")
        with tempfile.TemporaryDirectory() as elsewhere:
            figures = Path(elsewhere) / "figures.json"
            done = self.bench(
                *("--rounds", "1", "--seconds", "1", "--rows", "get,idle-stream,connections"),
                *("--peers", "proxy,nginx"),
                *("--json", str(figures)),
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            rows = json.loads(figures.read_text())["rows"]
        for row in rows.values():
            self.assertGreater(row["median"]["proxy"], 0)
            digits = 1 if row["unit"].startswith("CPU us") else 2
            self.assertIn(f"{row['median']['proxy']:.{digits}f}", done.stdout)
        self.assertEqual(list(self.folder.iterdir()), [])
        self.assertEqual(leftovers(self.folder), [])

    def test_stops_everything_when_it_is_stopped(self) -> None:
        """Ctrl-C in the middle ends the peers and removes the files."""
        running = subprocess.Popen(
            command("--rounds", "50", "--rows", "idle-stream", "--peers", "proxy"),
            cwd=REPOSITORY,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert running.stderr is not None
        self.assertIn("idle-stream, round 1 of 50", running.stderr.readline())
        running.send_signal(signal.SIGINT)
        self.assertEqual(running.wait(60), 130)
        running.stderr.close()
        self.assertEqual(list(self.folder.iterdir()), [])
        self.assertEqual(leftovers(self.folder), [])

    def test_says_what_it_could_measure_where_the_choice_is_wrong(self) -> None:
        """A row that does not exist is answered with those that do."""
        done = self.bench("--rows", "gte")
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"gte: expected of get, new-token, .*idle-stream")

    def surroundings(self) -> AbstractContextManager[World]:
        """Return the surroundings of a run, in this process."""
        self.patch(tempfile, "tempdir", str(self.folder))
        return surroundings(choose_cores(), raise_file_limit())

    def test_a_load_that_meets_wrong_answers_is_no_load(self) -> None:
        """Real answers of the wrong status are counted, and the first is shown."""
        need("wrk")
        with self.surroundings() as world:
            wrong = load.Request("GET", b"/nowhere", b"", [world.token])
            error = self.assertRaises(
                WrongAnswer, load.run, world, world.stub, wrong, connections=4, seconds=1
            )
        self.assertTrue(re.search(r"(\d+) of \1 answers were wrong, the first: 404", str(error)), str(error))

    def test_of_many_tokens_each_is_sent_once(self) -> None:
        """The row of new tokens ends with the last of them, however much time is left."""
        need("wrk")
        with self.surroundings() as world:
            each_once = load.Request("GET", GET_PATH, b"", [str(number) for number in range(50)])
            seen = load.run(world, world.stub, each_once, connections=4, seconds=2)
        self.assertEqual(seen.answers, 50)

    def test_a_load_is_followed(self) -> None:
        """How many answers there were is said while they come, so that a figure can leave out the first."""
        need("wrk")
        told: list[int] = []
        with self.surroundings() as world:
            request = load.Request("GET", GET_PATH, b"", [world.token])
            seen = load.run(world, world.stub, request, connections=4, seconds=2, progress=told.append)
        self.assertGreaterEqual(seen.answers, load.STEP)
        self.assertEqual(told, list(range(load.STEP, seen.answers + 1, load.STEP)))

    def test_a_peer_that_checks_no_tokens_is_found_out(self) -> None:
        """A proxy that relays a forged token would be compared unfairly: the run ends."""
        need("nginx")
        careless = evolve(NGINX, checks_tokens=True)
        with self.surroundings() as world, ExitStack() as stack:
            self.assertRaises(WrongAnswer, careless.start, stack, world, world.answers)
