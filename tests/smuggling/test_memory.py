"""The corpus against the product's parts in memory, however the network cuts the bytes."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.smuggling.answers import read_answers
from tests.smuggling.cases import REQUEST_TEXTS, AnswerCase, RequestCase, answer_cases, request_cases, written
from tests.smuggling.failures import failures
from tests.smuggling.holding import held
from tests.smuggling.memory import MemoryProxy
from tests.smuggling.upstream import Answer, Request, ordinary
from tests.support.keys import access_claims, make_token

TOKEN = make_token(access_claims()).encode("ascii")
NEXT = written("<GET>", REQUEST_TEXTS).replace(b"{token}", TOKEN).replace(b"/ok", b"/next")

#: What one connection may hold beside what one read brings (docs/limits.md).
HELD = 400 * 1024


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Yield ``data`` as one read, as reads of a byte each (or more, where it is long), and as odd ones."""
    yield [data]
    for step in (max(1, len(data) // 2000), max(61, len(data) // 200)):
        yield [data[at : at + step] for at in range(0, len(data), step)]


class Requests(SynchronousTestCase):
    """What clients send."""

    def test_corpus(self) -> None:
        """Each attack gets its answer; no server behind the proxy sees anything but the proxy's requests."""
        cases = [case for case in request_cases() if case.only != "sockets"]
        self.assertGreater(len(cases), 300)
        every = ((case, pieces) for case in cases for pieces in cuts(case.send.replace(b"{token}", TOKEN)))
        self.assertEqual(failures(self.check, every), [])

    def check(self, case: RequestCase, pieces: list[bytes]) -> None:
        proxy = MemoryProxy()
        client = proxy.client()
        for piece in pieces:
            client.receive(piece)
            proxy.run()
            if len(piece) > 60:
                self.assertLess(held(client.protocol), HELD + len(piece))
        closed = client.over or client.half_closed
        methods = [line.split(b" ")[0] for line in case.upstream]
        answers = read_answers(client.sent, methods, ended=closed)
        self.assertEqual([answer.status for answer in answers], list(case.answers), client.sent[-500:])
        self.assertEqual([request.line for request in proxy.upstream.requests], list(case.upstream))
        self.assertEqual(closed, case.closed)
        if not closed and not case.waits:
            client.taken()
            client.receive(NEXT)
            proxy.run()
            self.assertEqual([one.status for one in read_answers(client.sent, ended=False)], [200])
            self.assertEqual(proxy.upstream.requests[-1].line, b"GET /next")
        if case.waits:
            # Whoever pauses is told so and sent away: what comes later must not be the next request.
            proxy.clock.advance(31)
            proxy.run()
            last = read_answers(client.sent, methods, ended=True)[len(answers) :]
            self.assertEqual([answer.status for answer in last], [408])
            client.receive(NEXT)
            proxy.run()
            self.assertEqual(len(proxy.upstream.requests), len(case.upstream))
        self.assertEqual(proxy.upstream.complaints(), [])
        present = {name.lower() for request in proxy.upstream.requests for name, _ in request.headers}
        self.assertEqual(present & set(case.absent), set())
        self.assertEqual(proxy.end(), [])


class Answers(SynchronousTestCase):
    """What upstreams send."""

    def test_corpus(self) -> None:
        """Each answer is passed on whole, or is 502 or a cut; nothing of it reaches the next client."""
        cases = answer_cases()
        self.assertGreater(len(cases), 100)
        every = ((case, pieces) for case in cases for pieces in cuts(case.send))
        self.assertEqual(failures(self.check, every), [])

    def check(self, case: AnswerCase, pieces: list[bytes]) -> None:
        proxy = MemoryProxy()

        def answer(request: Request) -> Answer:
            return ordinary(request) if request.target == b"/next" else Answer(b"")

        proxy.upstream.answer = answer
        client = proxy.client()
        client.receive(case.method + NEXT.removeprefix(b"GET").replace(b"/next", b"/mcp"))
        proxy.run()
        upstream = proxy.wires[0][0]
        for piece in pieces:
            upstream.receive(piece)
            proxy.run()
            if len(piece) > 60:
                self.assertLess(held(client.protocol) + held(upstream.protocol), HELD + len(piece))
        if case.hangs_up:
            upstream.close()
        answers = read_answers(client.sent, [case.method], ended=client.over)
        found = [(one.status, one.body) for one in answers]
        if case.status is None:
            self.assertIn(([status for status, _ in found], client.over), (([], True), ([502], False)))
        elif case.status == 502:
            self.assertEqual([status for status, _ in found], [502])
        else:
            self.assertEqual(found, [(case.status, case.body)])
        names = {name.lower() for one in answers for name, _ in one.headers}
        self.assertEqual(names & set(case.absent), set())
        # Somebody else's request gets an answer of its own.
        other = proxy.client()
        other.receive(NEXT)
        proxy.run()
        (mine,) = read_answers(other.sent, ended=False)
        self.assertEqual((mine.status, mine.body), (200, b"ok"))
        self.assertEqual(proxy.upstream.requests[-1].connection == 0, case.reused)
        self.assertEqual(upstream.over, not case.reused)
        self.assertEqual(proxy.upstream.complaints(), [])
        self.assertEqual(proxy.end(), [])
