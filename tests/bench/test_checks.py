"""A wrong answer makes a figure worthless: every check must be able to fail."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from bench import load, streams
from bench.errors import BenchError, Missing, WrongAnswer
from bench.peers import GO, NGINX, PROXY, Peer
from bench.rows import ROWS, Row, Sample
from bench.session import available, order, possible
from bench.traffic import ANSWER, CALL, FIRST_EVENT


def report(**changes: Any) -> str:
    """Return wrk's output as the script writes it."""
    fields = {"right": 10, "wrong": 0, "first_wrong": "", "failed": 0, "duration_us": 2_000_000}
    return "Running 2s test\n\n" + json.dumps({**fields, "p50_us": 400, "p99_us": 900, **changes}) + "\n"


class Load(SynchronousTestCase):
    """What wrk saw is judged before it becomes a figure."""

    def test_right_answers_count(self) -> None:
        """Ten right answers in two seconds are read as that."""
        seen = load.judge(report())
        self.assertEqual((seen.answers, seen.duration, seen.p50), (10, 2.0, 0.0004))

    def test_one_wrong_answer_ends_it(self) -> None:
        """The message says how many, and shows the first."""
        error = self.assertRaises(WrongAnswer, load.judge, report(wrong=1, first_wrong="502 {}"))
        self.assertIn("1 of 11 answers were wrong, the first: 502 {}", str(error))

    def test_lost_connections_end_it(self) -> None:
        """Requests that got no answer are no cheap requests."""
        self.assertRaises(WrongAnswer, load.judge, report(failed=1))

    def test_no_answers_end_it(self) -> None:
        """Nothing is not divided by."""
        self.assertRaises(WrongAnswer, load.judge, report(right=0))

    def test_a_wrk_that_fails_is_quoted(self) -> None:
        """What wrk said is in the message."""
        error = self.assertRaises(BenchError, load.judge, "unable to connect to 127.0.0.1:1")
        self.assertIn("unable to connect", str(error))
        self.assertRaises(BenchError, load.judge, "")


class Streams(SynchronousTestCase):
    """A stream counts once it is open all the way through."""

    HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

    @given(cut=st.integers(0, len(HEAD) + len(FIRST_EVENT) - 1))
    def test_half_an_opening_is_not_open(self, cut: int) -> None:
        """However it is split, the stream is open with the last byte of its first event."""
        whole = self.HEAD + FIRST_EVENT
        self.assertFalse(streams.check_opening(whole[:cut]))
        self.assertTrue(streams.check_opening(whole))

    def test_a_refusal_is_no_stream(self) -> None:
        """A 401 or a JSON answer ends the run."""
        for head in (
            b"HTTP/1.1 401 Unauthorized\r\nContent-Type: text/event-stream\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n",
        ):
            self.assertRaises(WrongAnswer, streams.check_opening, head)


class Session(SynchronousTestCase):
    """Who is measured, and when."""

    def test_each_peer_begins_in_turn(self) -> None:
        """No peer always runs first, on a cache that is still warm with somebody else."""
        peers = (PROXY, GO, NGINX)
        firsts = [order(peers, number)[0] for number in range(3)]
        self.assertEqual(firsts, list(peers))
        self.assertEqual(
            {frozenset(peer.name for peer in order(peers, n)) for n in range(7)},
            {frozenset({"proxy", "go", "nginx"})},
        )

    def test_what_is_missing_is_said_and_left_out(self) -> None:
        """A machine without nginx measures the rest and reads how to get it."""

        def lacking() -> object:
            raise Missing("nginx is not installed (apt-get install nginx-light)")

        here = Peer("here", "here", PROXY.command)
        gone = Peer("gone", "nginx", NGINX.command, prepare=lacking)
        row = Row("row", "a row", "us", lambda *_: Sample(1.0, {}), needs=lacking)
        said: list[str] = []
        self.assertEqual(available([here, gone], said.append), [here])
        self.assertEqual(possible([ROWS[-1], row], said.append), [ROWS[-1]])
        self.assertEqual([line.count("apt-get install nginx-light") for line in said], [1, 1])


class Traffic(SynchronousTestCase):
    """The fixed bytes are what the table says they are."""

    def test_the_answer_is_100_bytes_of_json(self) -> None:
        """The answer is an MCP result, and the call an MCP call, of the same id."""
        self.assertEqual(len(ANSWER), 100)
        self.assertEqual(json.loads(ANSWER)["id"], json.loads(CALL)["id"])
