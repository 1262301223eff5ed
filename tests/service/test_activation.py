"""Started by a service manager: the socket is handed over, and it is told how the service does."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SkipTest, TestCase

from tests.service.scene import PATIENCE, SceneCase, exchange
from tests.service.test_twistd import TWISTD
from tests.support.program import Program, clean_environment, wait_until

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
READY = b"GET /readyz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
SERVE = (sys.executable, "-m", "mcp_oauth2_proxy", "serve")
UNDER_TWISTD = (TWISTD, "-n", "--pidfile=", "mcp-oauth2-proxy")
#: twistd as it is at its first start, when it has no cache of its plugins and imports them all.
FIRST_TWISTD = (
    *(sys.executable, "-c"),
    "import twisted.internet.endpoints; from twisted.scripts.twistd import run; run()",
    *UNDER_TWISTD[1:],
)
#: Does what systemd does: a listening socket as descriptor 3, and the variables that say so.
LAUNCHER = """
import os, socket, sys
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="http")
os.execv(sys.argv[2], sys.argv[2:])
"""


class Activated(SceneCase, TestCase):
    """The program, as ``systemd.socket`` and ``Type=notify`` have it."""

    timeout = 120

    def setUp(self) -> None:
        super().setUp()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.bind(str(self.directory / "notify"))
        self.manager.settimeout(PATIENCE)
        self.heard: list[str] = []

    def start(self, *command: str, launcher: Callable[[int], list[str]], **server: Any) -> Program:
        """Start the program by a launcher; where it is told to listen there is nothing to be had."""
        path = self.write(server={"listenAddress": "192.0.2.1:1", "shutdownGrace": "2s", **server})
        environment = clean_environment(NOTIFY_SOCKET=str(self.directory / "notify"), WATCHDOG_USEC="1000000")
        program = Program(
            [*launcher(self.port), *command, "--config", str(path)],
            environment=environment,
            directory=self.directory,
        )
        self.addCleanup(program.kill)
        return program

    def hear(self, text: str) -> None:
        """Wait until the service manager hears ``text``."""
        while text not in self.heard:
            self.heard.append(self.manager.recv(4096).decode())

    def lives(self, program: Program, *, code: int = 0) -> None:
        """It takes the socket, says that it is ready and lives, and says that it goes."""
        self.hear("READY=1")
        self.assertEqual(exchange(self.port, HEALTH)[::2], (200, b"ok"))
        self.hear("WATCHDOG=1")
        self.hear("STATUS=ready")
        # Workers hear it on their own way.
        wait_until(
            lambda: exchange(self.port, READY)[::2] == (200, b"ok"),
            "every worker knows it",
            PATIENCE,
            program,
        )
        self.assertEqual(program.stop(), code, program.output)
        self.hear("STOPPING=1\nSTATUS=draining")
        self.assertNotIn("cannot listen", program.output)

    def answered(self) -> bool:
        """Say whether the program answers."""
        with contextlib.suppress(OSError):
            return exchange(self.port, HEALTH)[2] == b"ok"
        return False

    @staticmethod
    def by_hand(port: int) -> list[str]:
        """Return a launcher as small as they come."""
        return [sys.executable, "-c", LAUNCHER, str(port)]

    def by_systemd(self, port: int) -> list[str]:
        """Return systemd's own."""
        program = shutil.which("systemd-socket-activate")
        if program is None:
            raise SkipTest("systemd-socket-activate is not installed")
        passed = ["-E", "NOTIFY_SOCKET", "-E", "WATCHDOG_USEC", "-E", "PATH"]
        return [program, *passed, "-l", f"127.0.0.1:{port}"]

    def test_one_process(self) -> None:
        """``serve`` takes the socket that it was handed."""
        self.lives(self.start(*SERVE, launcher=self.by_hand))

    def test_workers(self) -> None:
        """So do two workers, and one of them speaks for all: their supervisor."""
        program = self.start(*SERVE, launcher=self.by_hand, workers=2)
        self.lives(program)
        self.assertEqual(self.heard.count("READY=1"), 1)

    def test_twistd(self) -> None:
        """So does ``twistd mcp-oauth2-proxy``."""
        program = self.start(*UNDER_TWISTD, launcher=self.by_hand, workers=2)
        self.lives(program, code=128 + 15)

    def test_twistd_that_has_no_plugin_cache(self) -> None:
        """At its first start twistd imports every plugin, and with them what takes the sockets away."""
        self.lives(self.start(*FIRST_TWISTD, launcher=self.by_hand), code=128 + 15)

    def test_systemd_itself(self) -> None:
        """The first connection starts it, and is answered."""
        program = self.start(*SERVE, launcher=self.by_systemd)
        wait_until(self.answered, "systemd's socket answers", PATIENCE, program)
        self.lives(program)

    def test_a_socket_by_its_name(self) -> None:
        """``systemd:`` in ``server.listenAddress`` says which: one process, two workers, under twistd."""
        killed = 128 + 15
        for command, workers, code in (
            (SERVE, 1, 0),
            (SERVE, 2, 0),
            (UNDER_TWISTD, 1, killed),
            (FIRST_TWISTD, 1, killed),
        ):
            with self.subTest(command=command, workers=workers):
                self.heard.clear()
                address = "systemd:domain=INET:name=http"
                self.lives(
                    self.start(*command, launcher=self.by_hand, workers=workers, listenAddress=address),
                    code=code,
                )

    def test_a_socket_by_its_index_from_systemd_itself(self) -> None:
        """systemd's own launcher gives its first socket the index 0."""
        address = "systemd:domain=INET:index=0"
        program = self.start(*SERVE, launcher=self.by_systemd, listenAddress=address)
        wait_until(self.answered, "systemd's socket answers", PATIENCE, program)
        self.lives(program)

    def test_a_socket_that_is_not_there(self) -> None:
        """Nothing else is listened on: one line says what was handed over, and the start ends."""
        for command, code in ((SERVE, 2), (UNDER_TWISTD, 1), (FIRST_TWISTD, 1)):
            for launcher, said in (
                (self.by_hand, "these were: index 0 name http"),
                (lambda _port: [], "no socket was"),
            ):
                address = "systemd:domain=INET:name=https"
                program = self.start(*command, launcher=launcher, listenAddress=address)
                self.assertEqual(program.wait(PATIENCE), code, program.output)
                self.assertIn(f"server.listenAddress: {address} was not handed over: {said}", program.output)
                self.assertNotIn("Traceback", program.output)

    def test_what_is_no_socket(self) -> None:
        """A descriptor that cannot be listened on ends the start with 2."""
        program = self.start(
            sys.executable,
            "-c",
            "import os, sys; os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
            "os.dup2(os.open('/dev/null', 0), 3); from mcp_oauth2_proxy.cli import main; main()",
            "serve",
            launcher=lambda _port: [],
        )
        self.assertEqual(program.wait(PATIENCE), 2)
        self.assertIn("file descriptor 3 is not a socket", program.output)
