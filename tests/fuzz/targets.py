"""What is done with each input of the fuzzer, and what must be true of it: an exception is a finding."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.logger import LogEvent, globalLogPublisher

from tests.smuggling.answers import read_answers
from tests.smuggling.cases import REQUEST_TEXTS, answer_cases, request_cases, written
from tests.smuggling.judgements import check_answer, check_requests
from tests.smuggling.memory import MemoryProxy
from tests.smuggling.upstream import Answer, Request, ordinary
from tests.support.keys import access_claims, make_token

#: What stands for a good token in an input: the fuzzer cannot sign one.
PLACEHOLDER = b"Bearer good\r\n"
_TOKEN = make_token(access_claims()).encode("ascii")
_GOOD = b"Bearer " + _TOKEN + b"\r\n"
_NEXT = written("<GET>", REQUEST_TEXTS).replace(b"{token}", _TOKEN).replace(b"/ok", b"/next")
#: Inputs that earlier runs kept since they reached something new, a line of Python for each.
KEPT = Path(__file__).with_name("seeds")
#: The first byte of an answer's input says which request it answers and whether the upstream hangs up.
_METHODS = (b"GET", b"HEAD")


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """Fail where an exception did not escape but was logged."""
    logged: list[str] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            logged.append(event["log_failure"].getTraceback())

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)
    assert not logged, logged[0]


def requests(data: bytes) -> None:
    """A client's bytes: alone through the parser, and through the whole proxy to an upstream."""
    check_requests(data)
    with _nothing_logged():
        proxy = MemoryProxy()
        client = proxy.client()
        client.receive(data.replace(PLACEHOLDER, _GOOD))
        proxy.run()
        ended = client.over or client.half_closed
        if b"HEAD " not in data:  # else the test cannot know which answers have no body
            read_answers(client.sent, ended=ended)
        assert proxy.upstream.complaints() == [], proxy.upstream.complaints()
        assert proxy.end() == [], "a timer is left"


def answers(data: bytes) -> None:
    """An upstream's bytes: alone through the connection, and through the whole proxy to two clients."""
    choice, data = data[0] if data else 0, data[1:]
    method, hangs_up = _METHODS[choice & 1], bool(choice & 2)
    check_answer(method, data, hangs_up=hangs_up)
    with _nothing_logged():
        proxy = MemoryProxy()

        def answer(request: Request) -> Answer:
            return ordinary(request) if request.target == b"/next" else Answer(data, hangs_up)

        proxy.upstream.answer = answer
        client, other = proxy.client(), proxy.client()
        client.receive(method + _NEXT.removeprefix(b"GET").replace(b"/next", b"/mcp"))
        proxy.run()
        assert len(read_answers(client.sent, [method], ended=client.over)) <= 1, "two answers to one request"
        other.receive(_NEXT)
        proxy.run()
        (mine,) = read_answers(other.sent, ended=other.over)
        assert (mine.status, mine.body) == (200, b"ok"), "somebody else's answer"
        assert proxy.end() == [], "a timer is left"


def planted(data: bytes) -> None:
    """A defect for the fuzzer's own test."""
    assert not data.startswith(b"GET "), "the planted defect"


TARGETS: dict[str, Callable[[bytes], None]] = {"requests": requests, "answers": answers, "planted": planted}


def seeds(target: str) -> list[bytes]:
    """Return where the fuzzer begins: the corpus of attacks, and what earlier runs found new in it."""
    return cases(target) + kept(target)


def kept(target: str) -> list[bytes]:
    """Return what earlier runs have found."""
    path = KEPT / f"{target}.txt"
    return [literal_eval(line) for line in path.read_text("ascii").splitlines()] if path.exists() else []


def cases(target: str) -> list[bytes]:
    """Return the corpus of attacks as inputs."""
    if target == "answers":
        choices = [(_METHODS.index(case.method) | 2 * case.hangs_up, case.send) for case in answer_cases()]
        return [bytes([choice]) + data for choice, data in choices]
    return [case.send.replace(b"Bearer {token}\r\n", PLACEHOLDER) for case in request_cases()]
