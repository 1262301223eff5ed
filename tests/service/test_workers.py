"""``server.workers: 2``: two processes that serve as one, started, killed and stopped."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.service.crew import CrewCase, alive
from tests.service.scene import PATIENCE, connect, exchange, read_answer
from tests.support.program import wait_until
from tests.support.proxy import Proxy


class Serving(CrewCase):
    """From the first request to SIGTERM."""

    def test_both_serve_as_one(self) -> None:
        """Both answer on one port, each line says who did, and SIGTERM ends everything with 0."""
        proxy = self.start()
        self.one_of_each(proxy)
        # Each worker is told of the others a moment after they are up.
        wait_until(lambda: proxy.readiness() == (200, "ok"), "all are ready", PATIENCE, proxy.program)
        pids = self.pids(proxy)
        self.assertEqual(proxy.stop(), 0)
        self.assertEqual([pid for pid in pids.values() if alive(pid)], [])
        messages = [line["message"] for line in proxy.log_lines()]
        self.assertEqual(messages.count("stopped"), 2)
        self.assertEqual(messages[-1], "all workers have ended")
        self.assertNotIn("Traceback", proxy.output)

    def test_nothing_is_left_behind(self) -> None:
        """The file that stands for ``memory://`` is in a directory of this user alone, and goes."""
        proxy = self.start()
        directory = self.private_directory(proxy)
        self.assertEqual(directory.stat().st_mode & 0o777, 0o700)
        self.assertEqual({path.stat().st_mode & 0o777 for path in directory.iterdir()}, {0o600})
        self.assertEqual(proxy.stop(), 0)
        self.assertFalse(directory.exists())

    def private_directory(self, proxy: Proxy) -> Path:
        """Return where a worker has its store open."""
        pid = self.pids(proxy)[1]

        def opened() -> set[Path]:
            links = Path(f"/proc/{pid}/fd").iterdir()
            return {Path(os.readlink(link)).parent for link in links if "store.db" in os.readlink(link)}

        wait_until(lambda: bool(opened()), "the store is open", PATIENCE, proxy.program)
        (directory,) = opened()
        return directory

    def test_a_worker_is_killed(self) -> None:
        """Its own connections end; those of the other, and new ones, notice nothing; it is replaced."""
        proxy = self.start()
        streams = self.one_of_each(proxy)
        kept = [self.kept(proxy, f"/kept/{number}") for number in range(16)]
        for client in streams.values():
            client.sendall(self.get("/events"))
            received = b""
            while b"data: one" not in received:
                received += client.recv(65536)
        before = self.kill_worker(proxy, 1)
        self.assertEqual({self.fresh(proxy) for _ in range(20)}, {200})
        for worker, client in [(1, streams[1]), *kept]:
            if worker == 1:
                with contextlib.suppress(ConnectionResetError):
                    self.assertEqual(client.recv(65536), b"")
            else:
                client.sendall(self.get("/mcp"))
                self.assertEqual(read_answer(client)[0], 200)
        self.assertEqual({worker for worker, _ in kept}, {1, 2})
        self.assertFalse(self.is_readable(streams[2]), "a stream of the other worker is as quiet as before")
        self.assertEqual(proxy.readiness(), (200, "ok"))
        wait_until(lambda: self.pids(proxy)[1] != before, "it is replaced", PATIENCE, proxy.program)
        after = '"listening on .*"worker": 1'
        wait_until(lambda: len(re.findall(after, proxy.output)) == 2, "it listens", PATIENCE, proxy.program)
        self.assertEqual({self.fresh(proxy) for _ in range(20)}, {200})
        self.assertFalse(self.is_readable(streams[2]), "and still is")
        self.assertEqual(proxy.stop(), 0)
        self.assertEqual(streams[2].recv(65536), b"0\r\n\r\n", "it ends whole when the program is stopped")

    @staticmethod
    def is_readable(client: socket.socket) -> bool:
        """Return whether anything has come, the end included, without waiting for it."""
        client.setblocking(False)
        try:
            client.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        finally:
            client.settimeout(PATIENCE)
        return True

    def test_the_supervisor_is_killed(self) -> None:
        """Its workers finish what is under way, and then leave port and directory to the next one."""
        proxy = self.start(server={"shutdownGrace": "20s"})
        directory, pids = self.private_directory(proxy), self.pids(proxy)
        supervisor = self.supervisor(proxy)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(exchange, proxy.port, self.get("/slow"))
            self.assertTrue(self.scene.entered.wait(PATIENCE))
            os.kill(supervisor, signal.SIGKILL)
            proxy.program.wait_for("the supervisor is gone: draining", PATIENCE)
            self.scene.release.set()
            self.assertEqual(answer.result(PATIENCE)[0], 200)
        wait_until(lambda: not any(map(alive, pids.values())), "the workers end", PATIENCE)
        self.assertRaises(OSError, connect, proxy.port)
        self.assertFalse(directory.exists())


class Stopping(CrewCase):
    """SIGTERM while requests are under way."""

    def test_it_drains(self) -> None:
        """A request at each worker gets its whole answer, a new connection is refused, and the end is 0."""
        proxy = self.start(server={"shutdownGrace": "20s"})
        connections = self.one_of_each(proxy)
        for client in connections.values():
            client.sendall(self.get("/slow"))
        wait_until(lambda: len(self.scene.held) == 2, "both requests are under way", PATIENCE, proxy.program)
        proxy.program.send_signal(signal.SIGTERM)
        wait_until(lambda: proxy.output.count("1 requests have") == 2, "both drain", PATIENCE, proxy.program)
        self.assertRaises(OSError, connect, proxy.port)
        self.scene.release.set()
        for client in connections.values():
            self.assertEqual(read_answer(client)[::2], (200, b'{"slow": true}'))
        self.assertEqual(proxy.wait(PATIENCE), 0)

    def test_as_systemd_stops_it(self) -> None:
        """A signal to each process at once is one request to stop: nothing is cut, and nothing is raised."""
        proxy = self.start(server={"shutdownGrace": "20s"})
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(exchange, proxy.port, self.get("/slow"))
            self.assertTrue(self.scene.entered.wait(PATIENCE))
            for pid in (*self.pids(proxy).values(), self.supervisor(proxy)):
                os.kill(pid, signal.SIGTERM)
            wait_until(
                lambda: proxy.output.count(" requests have") == 2, "both drain", PATIENCE, proxy.program
            )
            self.scene.release.set()
            self.assertEqual(answer.result(PATIENCE)[0], 200)
        self.assertEqual(proxy.wait(PATIENCE), 0)
        self.assertNotIn("Traceback", proxy.output)
        self.assertNotIn("killing", proxy.output)

    def test_a_second_signal(self) -> None:
        """Whoever asks twice does not wait for the grace."""
        for workers in (1, 2):
            proxy = self.start(server={"shutdownGrace": "600s", "workers": workers})
            self.scene.entered.clear()
            with connect(proxy.port) as client:
                client.sendall(self.get("/slow"))
                self.assertTrue(self.scene.entered.wait(PATIENCE))
                proxy.program.send_signal(signal.SIGTERM)
                proxy.program.wait_for("1 requests have", PATIENCE)
                proxy.program.send_signal(signal.SIGTERM)
                self.assertEqual(proxy.wait(PATIENCE), 0, proxy.output)
            self.assertNotIn("Traceback", proxy.output)


class Reloading(CrewCase):
    """SIGHUP, with a configuration that has changed."""

    def test_no_request_is_lost(self) -> None:
        """New workers with the new configuration take over while requests go on, and none of those fails."""
        proxy = self.start(log={"level": "INFO"})
        self.one_of_each(proxy)
        before = self.pids(proxy)
        proxy.rewrite(headers={"mutations": [{"action": "add", "name": "X-New", "value": "yes"}]})
        proxy.program.send_signal(signal.SIGHUP)
        statuses = set()
        while "every worker has been replaced" not in proxy.output:
            statuses.add(self.fresh(proxy))
        self.assertEqual(statuses, {200})
        after = self.pids(proxy)
        self.assertEqual(set(before.values()) & set(after.values()), set())
        with connect(proxy.port) as client:
            client.sendall(self.get("/mcp"))
            self.assertIn(b"X-New", read_answer(client)[2])
        wait_until(lambda: not any(map(alive, before.values())), "the old ones end", PATIENCE, proxy.program)
        self.assertEqual(proxy.stop(), 0)

    def test_a_configuration_that_cannot_be_used(self) -> None:
        """The log names each mistake, and everything goes on as it was."""
        proxy = self.start()
        proxy.rewrite(upstream={"url": "nowhere"})
        proxy.program.send_signal(signal.SIGHUP)
        proxy.program.wait_for("going on with the old one", PATIENCE)
        self.assertIn("upstream.url", proxy.output)
        self.assertEqual(self.fresh(proxy), 200)
        self.assertEqual(proxy.stop(), 0)


class Refusing(CrewCase):
    """What cannot work is told once, with exit code 2."""

    def test_a_taken_port(self) -> None:
        """One line, as from a single process."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            proxy = self.start(wait=False, server={"listenAddress": address})
            self.assertEqual(proxy.wait(PATIENCE), 2)
        self.assertEqual(proxy.output.count(f"cannot listen on {address}"), 1)
        self.assertNotIn("Traceback", proxy.output)

    def test_a_wrong_configuration(self) -> None:
        """Each mistake once, before any worker is started."""
        proxy = self.start(wait=False, upstream={"url": "nowhere"})
        self.assertEqual(proxy.wait(PATIENCE), 2)
        self.assertEqual(proxy.output.count("upstream.url"), 1)

    def test_another_issuer(self) -> None:
        """A realm that calls itself otherwise ends the whole."""
        wrong = self.scene.issuer.replace("127.0.0.1", "localhost")
        proxy = self.start(wait=False, auth={"issuerUrl": wrong})
        self.assertEqual(proxy.wait(PATIENCE), 2)
        self.assertIn(wrong, proxy.output)
        self.assertIn("cannot work with this configuration", proxy.output)


class Readiness(CrewCase):
    """``/readyz``, whoever of them is asked."""

    def test_a_realm_that_is_away(self) -> None:
        """The whole is not ready, and is once the realm is back."""
        self.scene.is_down = True
        proxy = self.start(wait=False)
        proxy.wait_until_alive()
        status, text = proxy.readiness()
        self.assertEqual(status, 503)
        self.assertIn("worker ", text)
        self.scene.is_down = False
        proxy.wait_until_ready()
