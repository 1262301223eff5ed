"""The supervisor, with a clock and processes that the test holds in its hands."""

from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.load import Loaded, Said, load_said
from mcp_oauth2_proxy.ops.systemd import ServiceManager
from mcp_oauth2_proxy.workers import supervisor as module
from mcp_oauth2_proxy.workers.member import MAX_WRITTEN, Member
from mcp_oauth2_proxy.workers.messages import Report
from mcp_oauth2_proxy.workers.roster import MAX_SILENCE, MAX_START
from mcp_oauth2_proxy.workers.supervisor import GRACE_MARGIN, Supervisor
from tests.config.examples import MINIMAL
from tests.workers.reactor import FakeProcess, FakeReactor

UP, WAITING = Report(True), Report(False, ("keycloak: not yet",))


class SupervisorCase(SynchronousTestCase):
    """Two workers on a port of this machine."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.fatal: list[str] = []
        #: What a signal does, by its number.
        self.signals: dict[int, Any] = {}

        def note(_reactor: object, numbers: list[int], call: Any) -> None:
            self.signals.update(dict.fromkeys(numbers, call))

        self.patch(module, "on_signals", note)

    def start(self, **settings: str) -> Supervisor:
        overrides = {"server.listenAddress": "127.0.0.1:0", **settings}
        self.said = Said("c", MINIMAL.encode(), overrides)
        self.supervisor = Supervisor(
            self.load(),
            2,
            self.reactor,
            on_fatal=self.fatal.append,
            reload=self.load,
            manager=ServiceManager(),
        )
        self.supervisor.startService()
        self.addCleanup(self.end)
        return self.supervisor

    def load(self) -> Loaded:
        return load_said(self.said, {})

    def end(self) -> None:
        if self.supervisor.running:
            self.stopped = self.supervisor.stopService()
        for process in self.reactor.processes:
            if process.pid is not None:
                process.end(0)

    @property
    def processes(self) -> list[FakeProcess]:
        return self.reactor.processes

    def up(self) -> tuple[FakeProcess, FakeProcess]:
        """Return both workers, up and ready, and nothing unread from the supervisor."""
        one, two = self.processes
        for process in (one, two):
            process.say(UP)
        for process in (one, two):
            process.told()
        return one, two


class Starting(SupervisorCase):
    """What the workers are given."""

    def test_what_a_worker_is_told(self) -> None:
        """Its number, the configuration by its link alone, the socket; the first ones listen at once."""
        self.start()
        one, two = self.processes
        for number, process in enumerate((one, two), 1):
            (start,) = process.told()
            self.assertEqual((start["number"], start["workers"], start["listens"]), (number, 2, True))
            self.assertEqual(start["text"], MINIMAL)
            self.assertEqual(process.command[-1], str(number))
            self.assertNotIn("clientSecret", " ".join([*process.command, *process.environment.values()]))
            self.assertEqual(set(process.descriptors), {0, 1, 2, 3, 4, 5})

    def test_the_private_store(self) -> None:
        """``memory://`` is a file in a directory that only this user can enter, gone at the end."""
        self.start()
        (start,) = self.processes[0].told()
        directory = Path(start["private_store"]).parent
        self.assertEqual(stat.S_IMODE(directory.stat().st_mode), 0o700)
        (directory / "store.db").touch()
        self.end()
        self.assertFalse(directory.exists())

    def test_a_store_of_your_own(self) -> None:
        """Is used as it is."""
        self.start(**{"store.url": "sqlite:////nowhere/store.db"})
        self.assertIsNone(self.processes[0].told()[0]["private_store"])

    def test_a_taken_port(self) -> None:
        """Is told once, and no worker is started."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            self.start(**{"server.listenAddress": address})
        self.assertEqual(len(self.fatal), 1)
        self.assertIn(f"cannot listen on {address}", self.fatal[0])
        self.assertEqual(self.processes, [])

    def test_no_temporary_directory(self) -> None:
        """Says what to do."""

        def mkdtemp(prefix: str) -> str:
            raise FileNotFoundError(2, "No usable temporary directory found")

        self.patch(tempfile, "mkdtemp", mkdtemp)
        self.start()
        self.assertIn("set TMPDIR, or another store.url", self.fatal[0])

    def test_the_machine_has_no_room(self) -> None:
        """A process that cannot be started is tried again later."""
        self.reactor.refuse = BlockingIOError(11, "Resource temporarily unavailable")
        self.start()
        self.reactor.refuse = None
        self.reactor.advance(0.5)
        self.assertEqual(len(self.processes), 2)


class Output(SupervisorCase):
    """What the workers write, where the supervisor's log is the only place for it."""

    def test_it_becomes_lines_of_the_log(self) -> None:
        """Whole lines, however they arrive; one without an end is cut."""
        member = Member(1, born=0.0, on_report=self.fail, on_end=self.fail)
        told: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            told.append(event["line"])

        globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        member.childDataReceived(1, b"one\ntw")
        member.childDataReceived(2, b"another\n")
        member.childDataReceived(1, b"o\n")
        member.childDataReceived(1, b"x" * (MAX_WRITTEN + 1))
        self.assertEqual(told, ["one", "another", "two", "x" * (MAX_WRITTEN + 1)])


class Dying(SupervisorCase):
    """Workers that end though nobody told them to."""

    def test_it_is_replaced(self) -> None:
        """After half a second, then one, …; the new one takes connections when it is ready."""
        self.start()
        one, two = self.up()
        one.end(signal=signal.SIGKILL)
        self.reactor.advance(0.49)
        self.assertEqual(len(self.processes), 2)
        self.reactor.advance(0.02)
        replacement = self.processes[2]
        (start,) = replacement.told()[:1]
        self.assertEqual((start["number"], start["listens"]), (1, False))
        replacement.end(exit_code=1)
        self.reactor.advance(0.9)
        self.assertEqual(len(self.processes), 3)
        self.reactor.advance(0.2)
        self.assertEqual(len(self.processes), 4)
        self.assertEqual(two.told(), [], "nothing stands in the way of the whole")
        self.assertEqual(self.fatal, [])

    def test_the_last_one_that_listens(self) -> None:
        """With nobody left, those who were waiting to be ready take connections as they are."""
        self.start()
        one, two = self.up()
        one.end(signal=signal.SIGKILL)
        self.reactor.advance(1)
        replacement = self.processes[2]
        replacement.say(WAITING)
        replacement.told()
        two.end(signal=signal.SIGKILL)
        self.assertIn({"order": "listen"}, replacement.told())

    def test_a_configuration_that_nobody_can_use(self) -> None:
        """Exit code 2 before anybody was ready stops the whole, once."""
        self.start()
        one, two = self.processes
        one.say(WAITING)
        one.end(exit_code=2)
        two.end(exit_code=2)
        self.assertEqual(len(self.fatal), 1)
        self.assertIn("worker 1 cannot work with this configuration", self.fatal[0])

    def test_what_worked_once(self) -> None:
        """Later it is a death like any other: the others go on."""
        self.start()
        one, _ = self.up()
        one.end(exit_code=2)
        self.assertEqual(self.fatal, [])
        self.reactor.advance(1)
        self.assertEqual(len(self.processes), 3)

    def test_hanging(self) -> None:
        """A worker that says nothing for half a minute is killed; one that speaks is not."""
        self.start()
        one, two = self.up()
        for _ in range(MAX_SILENCE):
            two.say(UP)
            self.reactor.advance(1)
        self.assertEqual((one.signals, two.signals), ([signal.SIGKILL], []))

    def test_a_slow_start(self) -> None:
        """On a machine with little to give a start may take minutes; one that never ends is given up."""
        self.start()
        self.reactor.pump([1] * (MAX_START - 1))
        self.assertEqual([process.signals for process in self.processes], [[], []])
        self.reactor.advance(1)
        self.assertEqual([process.signals for process in self.processes], [[signal.SIGKILL]] * 2)


class Orphans(SupervisorCase):
    """As the first process of a container."""

    def test_they_are_buried(self) -> None:
        """Whoever is left to us and ends is no zombie; elsewhere that is the init process's business."""
        self.start()
        orphan = os.posix_spawn("/bin/true", ["true"], {})
        os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOWAIT)
        self.reactor.advance(1)
        os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOWAIT)
        self.patch(os, "getpid", lambda: 1)
        self.reactor.advance(1)
        self.assertRaises(ChildProcessError, os.waitpid, orphan, os.WNOHANG)

    def test_workers_are_left_alone(self) -> None:
        """How a worker ended is for the reactor to find out, and for the log."""
        self.start()
        worker = os.posix_spawn("/bin/false", ["false"], {})
        self.processes[0].pid = worker
        os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
        self.patch(os, "getpid", lambda: 1)
        self.reactor.advance(1)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]), 1)


class Whole(SupervisorCase):
    """What the workers hear of each other."""

    def test_not_until_all_are_up(self) -> None:
        """The first that is up says that the second is not, until it is."""
        self.start()
        one, two = self.processes
        one.told()
        one.say(UP)
        self.assertEqual(one.told(), [{"order": "others", "reasons": ["worker 2: not up yet"]}])
        two.say(Report(True, ("keycloak: away",)))
        self.assertEqual(one.told(), [{"order": "others", "reasons": ["worker 2: keycloak: away"]}])
        two.say(UP)
        self.assertEqual(one.told(), [{"order": "others", "reasons": []}])

    def test_they_hear_it_first(self) -> None:
        """When the service manager hears that the service is ready, every worker has been told."""
        heard: list[object] = []
        self.patch(ServiceManager, "ready", lambda *_: heard.append(one.told()))
        self.start()
        one, two = self.processes
        one.say(UP)
        one.told()
        two.say(UP)
        self.assertEqual(heard, [[{"order": "others", "reasons": []}]])

    def test_a_replacement(self) -> None:
        """Is told even that nothing is in the way: until then it answers that it does not know."""
        self.start()
        one, _ = self.up()
        one.end(signal=signal.SIGKILL)
        self.reactor.advance(1)
        self.processes[2].told()
        self.processes[2].say(WAITING)
        self.assertEqual(self.processes[2].told(), [{"order": "others", "reasons": []}])

    def test_only_news(self) -> None:
        """What has not changed is not repeated."""
        self.start()
        one, two = self.up()
        two.say(UP)
        one.say(UP)
        self.assertEqual((one.told(), two.told()), ([], []))


class Reloading(SupervisorCase):
    """SIGHUP."""

    def reload(self, **settings: str) -> None:
        self.said = evolve(self.said, overrides={**self.said.overrides, **settings})
        self.signals[signal.SIGHUP]()

    def test_one_after_the_other(self) -> None:
        """The new one is ready and takes connections before the old one drains; then the next."""
        self.start()
        one, two = self.up()
        self.reload(**{"log.level": "DEBUG"})
        self.assertEqual(len(self.processes), 3)
        new = self.processes[2]
        (start,) = new.told()
        self.assertEqual((start["number"], start["listens"]), (1, False))
        self.assertEqual(start["overrides"]["log.level"], "DEBUG")
        new.say(WAITING)
        self.assertEqual((one.told(), two.told()), ([], []))
        new.say(UP)
        self.assertEqual((one.told(), two.told()), ([{"order": "drain"}], []))
        self.assertEqual(len(self.processes), 4)
        one.end(0)
        self.processes[3].say(UP)
        self.assertEqual(two.told(), [{"order": "drain"}])
        two.end(0)
        self.reactor.advance(60)
        self.assertEqual(len(self.processes), 4, "nobody who was told to end is replaced")

    def test_a_configuration_that_cannot_be_used(self) -> None:
        """Everything stays as it was, for those who are replaced later too."""
        self.start()
        one, _ = self.up()
        self.reload(**{"upstream.url": "nowhere"})
        self.assertEqual(len(self.processes), 2)
        one.end(signal=signal.SIGKILL)
        self.reactor.advance(1)
        self.assertNotIn("upstream.url", self.processes[2].told()[0]["overrides"])
        self.assertEqual(self.fatal, [])

    def test_new_ones_that_end(self) -> None:
        """The old ones stay, with the old configuration."""
        self.start()
        one, two = self.up()
        self.reload(**{"log.level": "DEBUG"})
        self.processes[2].end(exit_code=2)
        self.reactor.advance(60)
        self.assertEqual(len(self.processes), 3)
        self.assertEqual((one.told(), two.told(), self.fatal), ([], [], []))
        one.end(signal=signal.SIGKILL)
        self.reactor.advance(1)
        self.assertNotIn("log.level", self.processes[3].told()[0]["overrides"])

    def test_an_old_one_that_dies_meanwhile(self) -> None:
        """Its successor is there already, and no other is started."""
        self.start()
        one, _ = self.up()
        self.reload()
        one.end(signal=signal.SIGKILL)
        self.reactor.advance(60)
        self.assertEqual(len(self.processes), 3)
        self.processes[2].say(UP)
        self.assertEqual(len(self.processes), 4)

    def test_both_die(self) -> None:
        """A successor that ends after the old one is replaced like any other."""
        self.start()
        one, _ = self.up()
        self.reload()
        one.end(signal=signal.SIGKILL)
        self.processes[2].end(exit_code=1)
        self.reactor.advance(1)
        self.assertEqual([process.told()[0]["number"] for process in self.processes[2:]], [1, 1])

    def test_twice(self) -> None:
        """A second SIGHUP does not begin anew."""
        self.start()
        self.up()
        self.reload()
        self.reload()
        self.assertEqual(len(self.processes), 3)

    def test_stopping_meanwhile(self) -> None:
        """SIGTERM ends old and new."""
        self.start()
        one, two = self.up()
        self.reload()
        stopped = self.supervisor.stopService()
        self.assertEqual(self.processes[2].signals, [signal.SIGTERM])
        for process in (self.processes[2], one, two):
            self.assertNoResult(stopped)
            process.end(0)
        self.successResultOf(stopped)
        self.assertEqual(len(self.processes), 3)

    def test_another_store(self) -> None:
        """A store that all can use takes the place of the private one."""
        self.start()
        self.up()
        self.reload(**{"store.url": "redis://redis"})
        self.assertIsNone(self.processes[2].told()[0]["private_store"])


class Stopping(SupervisorCase):
    """SIGTERM."""

    def test_it_drains(self) -> None:
        """The port is closed, each is told once, and the end comes with the last."""
        self.start()
        one, two = self.up()
        descriptor = one.descriptors[5]
        stopped = self.supervisor.stopService()
        self.assertRaises(OSError, os.fstat, descriptor)
        self.assertEqual((one.told(), two.told()), ([{"order": "drain"}], [{"order": "drain"}]))
        one.end(0)
        self.assertNoResult(stopped)
        two.end(0)
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_who_has_not_begun(self) -> None:
        """A worker that is still starting has nothing to drain."""
        self.start()
        self.supervisor.stopService()
        self.assertEqual([process.signals for process in self.processes], [[signal.SIGTERM]] * 2)

    def test_nobody_is_replaced_any_more(self) -> None:
        """A death during the drain, or just before, starts nothing."""
        self.start()
        one, two = self.up()
        one.end(signal=signal.SIGKILL)
        stopped = self.supervisor.stopService()
        two.end(signal=signal.SIGKILL)
        self.successResultOf(stopped)
        self.reactor.advance(60)
        self.assertEqual(len(self.processes), 2)

    def test_a_worker_that_does_not_end(self) -> None:
        """Is killed a little after the grace."""
        self.start(**{"server.shutdownGrace": "5s"})
        one, two = self.up()
        self.supervisor.stopService()
        two.end(0)
        self.reactor.advance(5 + GRACE_MARGIN - 0.1)
        self.assertEqual(one.signals, [])
        self.reactor.advance(0.2)
        self.assertEqual(one.signals, [signal.SIGKILL])

    def test_a_second_signal(self) -> None:
        """Whoever asks twice does not want to wait."""
        self.start()
        one, two = self.up()
        self.supervisor.stopService()
        self.signals[signal.SIGTERM]()
        self.assertEqual((one.signals, two.signals), ([signal.SIGKILL], [signal.SIGKILL]))
