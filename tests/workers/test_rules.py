"""The rules of supervisor and workers, without any process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.load import Said, load_said
from mcp_oauth2_proxy.config.model import AUTO, Rate, StoreKind
from mcp_oauth2_proxy.workers.cpus import usable_cpus, worker_count
from mcp_oauth2_proxy.workers.crew import (
    FIRST_PAUSE,
    LAST_PAUSE,
    STEADY,
    describe_end,
    in_the_way,
    next_pause,
)
from mcp_oauth2_proxy.workers.messages import Report, Start
from mcp_oauth2_proxy.workers.shares import needs_private_store, share_of
from tests.config.examples import MINIMAL

WELL, ILL, DEAF = Report(True), Report(True, ("store: down",)), Report(False, ("keycloak: away",))
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


class Cpus(SynchronousTestCase):
    """``server.workers: auto``."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        self.allowed = 8
        self.patch(os, "sched_getaffinity", lambda _: set(range(self.allowed)))

    def cpus(self, membership: str, **files: str) -> int:
        """Return the count where the process is in ``membership`` and the cgroup files hold this."""
        (self.root / "self").write_text(membership, encoding="utf-8")
        for name, text in files.items():
            path = self.root / name.replace("__", "/").replace("_max", ".max").replace("cpu_cfs", "cpu.cfs")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return usable_cpus(self.root / "fs", self.root / "self")

    def test_affinity(self) -> None:
        """``taskset`` and cpusets count, where nothing else bounds."""
        self.assertEqual(self.cpus("0::/\n"), 8)
        self.allowed = 3
        self.assertEqual(self.cpus("0::/\n", fs__cpu_max="max 100000\n"), 3)

    def test_quota(self) -> None:
        """``docker run --cpus 2.5`` is three processes, half a CPU one; the quota of a parent counts too."""
        self.assertEqual(self.cpus("0::/\n", fs__cpu_max="250000 100000\n"), 3)
        self.assertEqual(self.cpus("0::/\n", fs__cpu_max="50000 100000\n"), 1)
        self.assertEqual(
            self.cpus(
                "0::/a/b\n",
                fs__cpu_max="max 100000",
                fs__a__cpu_max="200000 100000",
                fs__a__b__cpu_max="max 1",
            ),
            2,
        )

    def test_the_first_version_of_cgroups(self) -> None:
        """The quota is in two files of the CPU controller; -1 is none; the path may be the host's."""
        quota = {
            "fs__cpu,cpuacct__cpu_cfs_quota_us": "400000\n",
            "fs__cpu,cpuacct__cpu_cfs_period_us": "100000\n",
        }
        self.assertEqual(self.cpus("4:memory:/x\n3:cpu,cpuacct:/docker/1\n", **quota), 4)
        self.assertEqual(
            self.cpus("3:cpu,cpuacct:/docker/1\n", **{**quota, "fs__cpu,cpuacct__cpu_cfs_quota_us": "-1"}), 8
        )

    def test_nonsense(self) -> None:
        """What cannot be read bounds nothing."""
        self.assertEqual(self.cpus("?\n", fs__cpu_max="?"), 8)
        self.assertEqual(usable_cpus(self.root / "fs", self.root / "nothing"), 8)

    def test_the_setting(self) -> None:
        """A number is that number, whatever the machine."""
        self.assertEqual(worker_count(5), 5)
        self.assertGreaterEqual(worker_count(AUTO), 1)


class Shares(SynchronousTestCase):
    """One worker's part."""

    def setUp(self) -> None:
        self.config = load_said(Said("c", MINIMAL.encode(), {}), {}).config

    def test_limits_are_of_the_whole(self) -> None:
        """Three workers let in what one would, within rounding; no limit stays none."""
        share = share_of(self.config, 3, None)
        self.assertEqual(share.server.max_connections, 3334)
        self.assertEqual(share.server.max_connections_per_address, 1667)
        self.assertEqual(share.limits.register_per_address, Rate(100, 60.0))
        self.assertEqual(share.limits.token_total, Rate(4000, 60.0))
        said = Said("c", MINIMAL.encode(), {"server.maxConnections": "0", "limits.tokenTotal": "0"})
        share = share_of(load_said(said, {}).config, 3, None)
        self.assertEqual((share.server.max_connections, share.limits.token_total.count), (0, 0))

    def test_alone(self) -> None:
        """One worker is what it was."""
        self.assertEqual(share_of(self.config, 1, None), self.config)
        self.assertFalse(needs_private_store(self.config, 1))

    def test_memory_becomes_a_file(self) -> None:
        """``memory://`` is a file that all of them share and that nobody needs to wait for; others stay."""
        self.assertTrue(needs_private_store(self.config, 2))
        url = share_of(self.config, 2, "/tmp/x/store.db").store.url
        self.assertEqual((url.kind, url.path, url.durable), (StoreKind.SQLITE, "/tmp/x/store.db", False))
        redis = load_said(Said("c", MINIMAL.encode(), {"store.url": "redis://h"}), {}).config
        self.assertFalse(needs_private_store(redis, 2))
        self.assertEqual(share_of(redis, 2, None).store, redis.store)


class Messages(SynchronousTestCase):
    """What goes over the socket pair."""

    @given(st.one_of(st.none(), WORDS), st.dictionaries(WORDS, WORDS, max_size=3), st.booleans())
    def test_a_start_arrives_as_it_was(
        self, text: str | None, overrides: dict[str, str], listens: bool
    ) -> None:
        """Whatever is in the configuration file, as one line."""
        said = Said("config.yaml", None if text is None else text.encode(), overrides)
        start = Start(2, 4, said, "/tmp/store.db", 1, listens)
        line = start.encode()
        self.assertNotIn(b"\n", line)
        self.assertEqual(Start.decode(line), start)

    @given(st.booleans(), st.lists(WORDS, max_size=3))
    def test_a_report_arrives_as_it_was(self, listens: bool, reasons: list[str]) -> None:
        """Reasons of any kind, as one line."""
        report = Report(listens, tuple(reasons))
        self.assertNotIn(b"\n", report.encode())
        self.assertEqual(Report.decode(report.encode()), report)

    def test_secrets_do_not_show(self) -> None:
        """Neither what the operator said nor a start shows itself."""
        said = Said("c", b"clientSecret: hunter2", {})
        for shown in (repr(said), repr(Start(1, 2, said, None, 1, True))):
            self.assertNotIn("hunter2", shown)


class Readiness(SynchronousTestCase):
    """``/readyz`` of the whole."""

    def test_at_the_start(self) -> None:
        """Until all have been up, each counts that is not."""
        reports = {1: WELL, 2: None, 3: DEAF}
        self.assertEqual(
            in_the_way(reports, complete=False), ["worker 2: not up yet", "worker 3: not up yet"]
        )
        self.assertEqual(in_the_way(reports, complete=False, but=2), ["worker 3: not up yet"])

    def test_a_dead_worker(self) -> None:
        """It gets no requests, so the others are ready without it, and so is one that replaces it."""
        self.assertEqual(in_the_way({1: WELL, 2: None, 3: DEAF}, complete=True), [])

    def test_a_worker_that_is_not_ready(self) -> None:
        """It gets requests: the whole is as ready as it is."""
        reports = {1: WELL, 2: ILL}
        self.assertEqual(in_the_way(reports, complete=True), ["worker 2: store: down"])
        self.assertEqual(in_the_way(reports, complete=True, but=1), ["worker 2: store: down"])
        self.assertEqual(in_the_way(reports, complete=True, but=2), [])

    def test_nobody(self) -> None:
        """Without any worker the whole is not ready."""
        self.assertEqual(in_the_way({1: None, 2: DEAF}, complete=True), ["no worker is up"])


class Replacements(SynchronousTestCase):
    """When a dead worker is replaced."""

    def test_pauses_double(self) -> None:
        """0.5 s, 1, 2, 4, 8, then 10 for ever; who lived for a minute begins anew."""
        pause, pauses = 0.0, []
        for _ in range(7):
            pause = next_pause(pause, lived=1.0)
            pauses.append(pause)
        self.assertEqual(pauses, [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0])
        self.assertEqual(next_pause(LAST_PAUSE, lived=STEADY), FIRST_PAUSE)

    def test_how_it_ended(self) -> None:
        """The log names the exit code, or the signal."""
        self.assertEqual(describe_end(3, None), "ended with exit code 3")
        self.assertEqual(describe_end(None, 9), "was killed by SIGKILL")
        self.assertEqual(describe_end(None, 99), "was killed by signal 99")
