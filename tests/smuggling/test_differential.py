"""Generated and mutated messages, read by the product and by h11: ours is never the laxer reading."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.limits import Limits
from tests.smuggling import grammar
from tests.smuggling.cases import answer_cases, request_cases
from tests.smuggling.judgements import (
    KNOWN_DIFFERENCES,
    check_answer,
    check_requests,
    judge_requests,
    read_requests,
)
from tests.smuggling.strategies import mutated, pipelines, streams

often = settings(
    max_examples=700, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
SMALL = 3000
REQUESTS = [case.send.replace(b"{token}", b"t") for case in request_cases() if len(case.send) < SMALL]
ANSWERS = [case.send for case in answer_cases() if len(case.send) < SMALL]


#: Refused for what a grammar does not say: methods that nobody has heard of, too many lines, and a tab that
#: llhttp takes for a part of a coding's name.
BEYOND_GRAMMAR = {
    "request-line: an unknown method",
    "transfer-encoding: a tab behind the value",
    "framing: a tab behind chunked",
    "heads: many lines",
}


class Requests(SynchronousTestCase):
    """What clients send."""

    def test_grammar(self) -> None:
        """The grammar refuses what the corpus has refused, so that it notices if the product does not."""
        for case in request_cases():
            if len(case.send) < SMALL and case.closed and case.answers[-1:] in ((400,), (505,)):
                found = grammar.requests(case.send)
                accepted = len(found) >= len(case.answers) and found[-1].whole
                self.assertEqual(accepted, case.name in BEYOND_GRAMMAR, case.name)

    def test_known_differences(self) -> None:
        """Each thing that we take and h11 does not is still one, and still harmless."""
        for difference in KNOWN_DIFFERENCES:
            ours = judge_requests([difference.example])
            self.assertEqual([message.whole for message in ours.messages], [True], difference.name)
            self.assertTrue(difference.section.startswith("RFC "), difference.name)
            check_requests(difference.example)
        theirs = read_requests(KNOWN_DIFFERENCES[0].example.removeprefix(b"\r\n").join([b"\r\n\r\n", b""]))
        self.assertTrue(theirs.broken)
        self.assertTrue(read_requests(KNOWN_DIFFERENCES[1].example).broken)

    def test_corpus(self) -> None:
        """The corpus itself, cut at every byte."""
        for data in REQUESTS:
            check_requests(data)

    def test_two_faults(self) -> None:
        """A head with a line too many, and behind it a broken one, is refused however it is read."""
        head = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * Limits().max_header_lines + b"X\r\n\r\n"
        self.assertIn(check_requests(head).refusal, (400, 431))

    @often
    @given(pipelines)
    def test_generated(self, data: bytes) -> None:
        """Requests put together from good and bad parts."""
        check_requests(data)

    @often
    @given(mutated(REQUESTS))
    def test_mutated(self, data: bytes) -> None:
        """Requests of the corpus with a few bytes changed."""
        check_requests(data)


class Answers(SynchronousTestCase):
    """What upstreams send."""

    def test_grammar(self) -> None:
        """The grammar refuses what the corpus has refused, so that it notices if the product does not."""
        for case in answer_cases():
            if len(case.send) < SMALL and case.status in (None, 502):
                found = grammar.answer(case.method, case.send, hangs_up=case.hangs_up)
                self.assertEqual(any(one.whole for one in found), case.name in BEYOND_GRAMMAR, case.name)

    def test_corpus(self) -> None:
        """The corpus itself, cut at every byte."""
        for case in answer_cases():
            if len(case.send) < SMALL:
                check_answer(case.method, case.send, hangs_up=case.hangs_up)

    @often
    @given(st.sampled_from([b"GET", b"GET", b"HEAD"]), streams, st.booleans())
    def test_generated(self, method: bytes, data: bytes, hangs_up: bool) -> None:
        """Answers put together from good and bad parts."""
        check_answer(method, data, hangs_up=hangs_up)

    @often
    @given(st.sampled_from([b"GET", b"GET", b"HEAD"]), mutated(ANSWERS), st.booleans())
    def test_mutated(self, method: bytes, data: bytes, hangs_up: bool) -> None:
        """Answers of the corpus with a few bytes changed."""
        check_answer(method, data, hangs_up=hangs_up)
