"""The corpus against the started program, over real sockets, with an upstream that records."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading

from twisted.trial.unittest import TestCase

from tests.service.scene import PATIENCE, Scene, connect
from tests.smuggling.answers import Received, read_answers
from tests.smuggling.cases import REQUEST_TEXTS, AnswerCase, RequestCase, answer_cases, request_cases, written
from tests.smuggling.failures import failures
from tests.smuggling.upstream import MARK, Answer, Connection, Request, Upstream, ordinary
from tests.support.proxy import Proxy

#: Bytes of a request's body that the proxy lets through.
MAX_BODY = 1_000_000


class Recorder:
    """Listens on 127.0.0.1 for a recording upstream."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                with self._lock:
                    connection = self.upstream.accept()
                threading.Thread(target=self._serve, args=(peer, connection), daemon=True).start()

    def _serve(self, peer: socket.socket, connection: Connection) -> None:
        with peer, contextlib.suppress(OSError):
            while data := peer.recv(65536):
                with self._lock:
                    answer = connection.feed(data)
                peer.sendall(answer.data)
                if answer.hangs_up:
                    return

    def stop(self) -> None:
        """Accept no more."""
        self._listener.close()


class Client:
    """One connection to the program, and all that has come on it."""

    def __init__(self, port: int) -> None:
        self._socket = connect(port)
        self.received = b""
        self.ended = False

    def send(self, data: bytes) -> None:
        """Send bytes; the program may hang up in the middle."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(data)

    def answers(self, count: int | None, methods: list[bytes]) -> list[Received]:
        """Return what has come once it is ``count`` answers, or at the end of the connection."""
        while True:
            found = read_answers(self.received, methods, ended=self.ended)
            if self.ended or (count is not None and len(found) >= count):
                return found
            piece = b""
            with contextlib.suppress(ConnectionError):
                piece = self._socket.recv(65536)
            self.received += piece
            self.ended = not piece

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Sockets(TestCase):
    """One started program for the whole corpus, so that whatever is left of an attack meets the next one."""

    timeout = 300

    def setUp(self) -> None:
        self.scene = Scene()
        self.addCleanup(self.scene.stop)
        self.upstream = Upstream(secrets.token_hex(16).encode())
        recorder = Recorder(self.upstream)
        self.addCleanup(recorder.stop)
        mark = {"action": "add", "name": MARK.decode(), "value": self.upstream.mark.decode()}
        self.proxy: Proxy = self.scene.start(
            upstream={"url": recorder.url, "idleTimeout": f"{PATIENCE}s"},
            headers={"mutations": [mark]},
            server={"maxBodyBytes": MAX_BODY},
        )
        self.addCleanup(self.proxy.stop)
        self.token = self.scene.token().encode()
        self.next = written("<GET>", REQUEST_TEXTS).replace(b"{token}", self.token).replace(b"/ok", b"/next")

        self.addCleanup(self.check_health)

    def check_health(self) -> None:
        """After all of it the program is alive, and no server could hold anything against what it sent."""
        self.assertEqual(self.upstream.complaints(), [])
        self.assertEqual(self.proxy.health(), (200, "ok"))
        self.assertNotIn("Traceback", self.proxy.output)

    def client(self) -> Client:
        client = Client(self.proxy.port)
        self.addCleanup(client.close)
        return client

    def test_requests(self) -> None:
        """Each attack gets its answer, and the next request on its connection, if there is one, its own."""
        cases = [(case,) for case in request_cases() if case.only != "memory"]
        self.assertEqual(failures(self.check_request, cases), [])

    def check_request(self, case: RequestCase) -> None:
        seen = len(self.upstream.requests)
        client = self.client()
        client.send(case.send.replace(b"{token}", self.token))
        methods = [line.split(b" ")[0] for line in case.upstream]
        answers = client.answers(None if case.closed else len(case.answers), methods)
        self.assertEqual([answer.status for answer in answers], list(case.answers), client.received[-500:])
        self.assertEqual(client.ended, case.closed)
        expected = list(case.upstream)
        if not case.closed and not case.waits:
            client.send(self.next)
            last = client.answers(len(answers) + 1, methods)[-1]
            self.assertEqual((last.status, last.body), (200, b"ok"))
            expected.append(b"GET /next")
        client.close()
        self.assertEqual([request.line for request in self.upstream.requests[seen:]], expected)

    def test_answers(self) -> None:
        """Each answer is passed on whole, or is 502 or a cut; the next client gets its own."""
        cases = [(case,) for case in answer_cases()]
        self.assertEqual(failures(self.check_answer, cases), [])

    def check_answer(self, case: AnswerCase) -> None:
        def answer(request: Request) -> Answer:
            return ordinary(request) if request.target == b"/next" else Answer(case.send, case.hangs_up)

        self.upstream.answer = answer
        client, other = self.client(), self.client()
        client.send(case.method + self.next.removeprefix(b"GET").replace(b"/next", b"/mcp"))
        found = client.answers(1, [case.method])
        statuses = [one.status for one in found]
        if case.status is None:
            self.assertIn(statuses, ([], [502]))
        elif case.status == 502:
            self.assertEqual(statuses, [502])
        else:
            self.assertEqual([(one.status, one.body) for one in found], [(case.status, case.body)])
        names = {name.lower() for one in found for name, _ in one.headers}
        self.assertEqual(names & set(case.absent), set())
        before = self.last("/mcp").connection
        other.send(self.next)
        (mine,) = other.answers(1, [])
        self.assertEqual((mine.status, mine.body), (200, b"ok"))
        self.assertEqual(self.last("/next").connection == before, case.reused)
        client.close()
        other.close()

    def last(self, target: str) -> Request:
        """Return the last request for ``target`` on the last connection that had one."""
        return [request for request in self.upstream.requests if request.target == target.encode()][-1]
