"""The relay between a client and an upstream that may do anything at any moment, as a state machine.

One game, played on an operating system in memory and on that of the machine.
"""

from __future__ import annotations

import gc
from collections import Counter
from contextlib import ExitStack
from typing import Any
from unittest import mock
from weakref import ref

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mcp_oauth2_proxy.config.model import Upstream as UpstreamSettings
from mcp_oauth2_proxy.gate.endings import Endings
from mcp_oauth2_proxy.gate.gate import Gate
from mcp_oauth2_proxy.gate.policy import Policy
from mcp_oauth2_proxy.relay.client import RelayClient
from mcp_oauth2_proxy.relay.proxy import ProxyResource
from mcp_oauth2_proxy.wire import channel, connection
from mcp_oauth2_proxy.wire.agent import WireAgent
from mcp_oauth2_proxy.wire.channel import MAX_PIPELINED
from mcp_oauth2_proxy.wire.site import WireSite
from mcp_oauth2_proxy.wire.sockets import unsent
from tests.relay.moves import CLIENTS, PIECES, QUESTIONS, SELDOM, SIZES, UPSTREAMS, Asked
from tests.relay.players import OWN_STATUS, Client, Question, Upstream, accept, pattern
from tests.relay.scripted import ScriptedRealm, bearer, configuration
from tests.support.kernel import TRANSPORT_BUFFER, Kernel
from tests.support.keys import NOW, key_set, rsa_key
from tests.support.machine import Machine

#: What came about in all games: games in which nothing does would prove nothing.
seen: Counter[str] = Counter()
#: A head, which is written at once, and a piece with its framing.
_PIECE = 2048 + TRANSPORT_BUFFER + 16
_AUTHORIZATION = bearer(exp=NOW + 10**8)
#: The number of the answer that an upstream gives to no request, before it hangs up.
UNASKED = 999


class Game(RuleBasedStateMachine):
    """Two clients, who come back when they have gone, and as many upstream connections as are opened."""

    def system(self) -> Kernel | Machine:
        """Return the operating system that is played on."""
        return Kernel()

    def __init__(self) -> None:
        super().__init__()
        self.kernel = kernel = self.system()
        kernel.advance(NOW)
        # Without a path of its own: what rewrites legacy streams holds an event back until it is whole.
        config = configuration(upstream=UpstreamSettings(url="http://upstream:3000"))
        self.agent = WireAgent(kernel, connect_timeout=5, response_header_timeout=60, idle_timeout=4)
        self.agent._endpoint = lambda _key: kernel  # type: ignore[method-assign, assignment, return-value]
        self.proxy = ProxyResource(
            config,
            gate=Gate(Policy.from_config(config), Endings(remember=86400)),
            realm=ScriptedRealm(key_set(rsa_key())),  # type: ignore[arg-type]
            client=RelayClient(self.agent),
            clock=kernel,
        )
        self.requests: list[ref[Any]] = []
        self.begun: Counter[str] = Counter()
        self.logged: Counter[str] = Counter()
        self.site = WireSite(self.proxy, reactor=kernel, on_done=self.log)
        self.note_beginnings()
        # What the wire asks the operating system for, asked of this one.
        self.patches = ExitStack()
        for place, name in ((connection, "arrivals"), (channel, "ended")):
            self.patches.enter_context(mock.patch.object(place, name, getattr(kernel, name)))
        self.questions: dict[int, tuple[Client, Question]] = {}
        self.clients: list[Client] = []
        self.gone: list[Client] = []
        self.upstreams: list[Upstream] = []
        self.arrived: Counter[int] = Counter()

    def note_beginnings(self) -> None:
        """Keep count of the requests that begin, and hold none of them."""
        began = self.site.request_began

        def request_began(request: Any) -> None:
            self.begun[request.requestId] += 1
            self.requests.append(ref(request))
            began(request)

        self.site.request_began = request_began  # type: ignore[method-assign]

    def log(self, request: Any) -> None:
        self.logged[request.requestId] += 1

    @initialize(first=QUESTIONS, second=QUESTIONS, answered=st.booleans(), at_once=st.booleans())
    def begin(self, first: Asked, second: Asked, answered: bool, at_once: bool) -> None:
        """Two clients ask; often they are answered. ``serve`` writes ``at_once``, twistd does not."""
        self.kernel.at_once = at_once
        self.clients = [self.connect(), self.connect()]
        for which, question in enumerate((first, second)):
            self.ask(which, question, 1, True)
        if answered:
            self.settle(sends=True, reads=True, takes=True, answers="length", size=10)

    def connect(self) -> Client:
        return Client(self.kernel.accept(self.site, "203.0.113.7"))

    # The clients.

    @rule(which=CLIENTS, question=QUESTIONS, count=st.sampled_from([1, 1, 2, 20]), at_once=st.booleans())
    def ask(self, which: int, question: Asked, count: int, at_once: bool) -> None:
        method, framing, size, odd = question
        client = self.clients[which]
        if method in (b"GET", b"HEAD") or (odd == "old" and framing == "chunked"):
            framing = "none"
        if client.ended:
            client.close()
            client = self.come_back(which, "cut")
        for _ in range(count):
            if any(question.closes for question in client.questions):
                return
            number = len(self.questions)
            question = Question(
                number,
                method,
                framing,
                pattern("q", number, size if framing != "none" else 0),
                version=b"1.0" if odd == "old" else b"1.1",
                closes=odd in ("close", "old"),
                authorization=b"" if odd == "stranger" else _AUTHORIZATION,
                expects=odd == "expect" and framing != "none",
            )
            self.questions[number] = client, question
            client.ask(question)
        if at_once:
            client.send(100_000)
            self.turn(2)

    @rule(which=CLIENTS, size=PIECES)
    def client_sends(self, which: int, size: int) -> None:
        self.clients[which].send(size)

    @rule(which=CLIENTS, size=PIECES)
    def client_reads(self, which: int, size: int) -> None:
        self.clients[which].read(size)

    @rule(which=CLIENTS, how=st.sampled_from(["close", "reset", "half", *["stay"] * 6]))
    def client_leaves(self, which: int, how: str) -> None:
        client = self.clients[which]
        if how == "half":
            client.socket.shutdown(1)
        elif how == "reset":
            client.socket.abort()
        elif how == "close" or client.ended:
            client.close()
        else:
            return
        self.come_back(which, how)

    def come_back(self, which: int, how: str) -> Client:
        """A client has gone, in one way or the other: it has a new connection."""
        client = self.clients[which]
        client.left = True
        self.gone.append(client)
        self.clients[which] = self.connect()
        seen["leaves: " + how] += 1
        return self.clients[which]

    # The upstream.

    @rule(which=UPSTREAMS, size=PIECES)
    def upstream_reads(self, which: int, size: int) -> None:
        self.upstream(which, lambda one: not one.over, lambda one: self.read(one, size))

    def read(self, upstream: Upstream, size: int) -> None:
        for request in upstream.read(size):
            self.arrived[request.number] += 1
            assert self.arrived[request.number] == 1, f"request {request.number} came too often"
        for request in upstream.arrived:
            client, question = self.questions[request.number]
            assert question.method == request.method
            assert question.body.startswith(request.body), (question.number, request.body)
            if request.whole:
                assert request.body == question.body
                assert client.sent >= question.ends, "a body that its client had not sent"

    @rule(
        which=UPSTREAMS,
        framing=st.sampled_from(["length", "chunked", "chunked", "close", "stream"]),
        size=SIZES,
        status=st.sampled_from([200, 200, 200, 202, 204, 304, 404]),
        interim=SELDOM,
        reads=PIECES,
        sends=PIECES,
    )
    def upstream_answers(
        self, which: int, *, framing: str, size: int, reads: int, sends: int, **more: Any
    ) -> None:
        def answer(one: Upstream) -> None:
            self.read(one, reads)
            self.answer(one, framing, size, **more)
            one.send(sends)

        self.upstream(which, lambda one: not one.over, answer)

    def answer(self, one: Upstream, framing: str, size: int, **more: Any) -> None:
        request = one.current
        seen["answers early"] += request is not None and request.answer_body is None and not request.whole
        one.answer(framing, size, **more)

    @rule(which=UPSTREAMS, size=PIECES)
    def upstream_sends(self, which: int, size: int) -> None:
        self.upstream(which, lambda one: bool(one.outbox), lambda one: one.send(size))

    @rule(which=UPSTREAMS, how=st.sampled_from(["close", "reset", "junk", "unasked", "half"]))
    def upstream_breaks(self, which: int, how: str) -> None:
        def wreck(one: Upstream) -> None:
            seen["breaks: " + how] += 1
            if how == "reset":
                one.abort()
            elif how == "half":
                one.end_half()
            else:
                answering = one.current is not None and one.current.answer_body is not None
                if how != "close" and not (answering or one.socket.reset) and one.socket.room > 60:
                    said = (
                        b"\0\r\n\r\n"
                        if how == "junk"
                        else b"HTTP/1.1 408 Too Late\r\nX-Id: %d\r\n\r\n" % UNASKED
                    )
                    one.socket.send(said)
                    one.over = one.over or one.current is not None
                one.close()

        self.upstream(which, lambda one: not one.over, wreck)

    def upstream(self, which: int, fits: Any, does: Any) -> None:
        """Do something with one of the connections that fit."""
        if fitting := [one for one in self.upstreams if fits(one)]:
            does(fitting[-1 - which % len(fitting)])

    @rule(listening=st.booleans())
    def listen(self, listening: bool) -> None:
        self.kernel.listening = listening or not self.kernel.listening

    # The world.

    @rule(turns=st.integers(1, 4))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.kernel.turn()
            accept(self.kernel, self.upstreams)

    @rule(
        sends=st.booleans(),
        reads=st.booleans(),
        takes=st.booleans(),
        answers=st.sampled_from([None, None, "length", "chunked", "close", "stream"]),
        size=SIZES,
    )
    def settle(self, *, sends: bool, reads: bool, takes: bool, answers: str | None, size: int) -> None:
        """Some do all they can until nothing moves."""
        for _ in range(5):
            self.kernel.settle()
            accept(self.kernel, self.upstreams)
            for client in self.clients:
                if sends:
                    client.send(100_000)
                if reads:
                    client.read(100_000)
            for one in self.upstreams:
                if takes:
                    self.read(one, 100_000)
                if answers:
                    self.answer(one, answers, size)
                    one.send(100_000)

    @rule(seconds=st.sampled_from([0.1, 1, 3, 5, 31, 61, 121]), sure=SELDOM)
    def time_passes(self, seconds: float, sure: bool) -> None:
        if seconds < 5 or sure:
            self.kernel.advance(seconds)

    @rule(sure=SELDOM)
    def drain(self, sure: bool) -> None:
        if sure and len(self.questions) > 5:
            seen["drains"] += 1
            self.site.drain()
            self.proxy.streams.end_idle()

    # What always holds.

    @invariant()
    def answers_in_order_and_whole_or_cut(self) -> None:
        whole = {
            request.number: request
            for upstream in self.upstreams
            for request in upstream.arrived
            if request.answer_body is not None
        }
        for client in (*self.clients, *self.gone):
            for question, answer in zip(client.questions, client.answers(), strict=False):
                if answer.number is None:
                    assert answer.status in OWN_STATUS, answer
                    continue
                if answer.number == UNASKED:  # it came when the request may have been there
                    seen["unasked"] += 1
                    continue
                assert answer.number == question.number, "somebody else's answer"
                request = whole[answer.number]
                assert request.answer_body is not None
                assert request.answer_body.startswith(answer.body)
                ended = answer.whole or (answer.whole is None and client.ended and not client.was_reset)
                # A process that is to end ends streams in which nothing happens.
                if ended and not (request.stream and self.site.draining):
                    seen["whole answers"] += 1
                    assert request.answer_whole, "whole before it was"
                    assert answer.body == request.answer_body, "cut, and looks whole"

    @invariant()
    def nothing_is_written_after_the_end(self) -> None:
        assert self.kernel.wrongs == []

    @invariant()
    def memory_is_bounded(self) -> None:
        for transport in self.kernel.transports:
            if transport.connected:
                held = len(unsent(transport))
                assert held <= TRANSPORT_BUFFER + _PIECE, held
            response = getattr(getattr(transport, "protocol", None), "_response", None)
            if response is not None:
                assert sum(map(len, response._chunks)) <= 2 * TRANSPORT_BUFFER
        for one in self.site.connections:
            assert len(one._unparsed) <= 2 * TRANSPORT_BUFFER
            assert len(one._waiting) <= MAX_PIPELINED + 1
            seen["held back"] += one._held or not one._reading
            for request in (one._current, *one._waiting):
                if request is not None:
                    assert sum(map(len, request.body._chunks)) <= 2 * TRANSPORT_BUFFER

    @invariant()
    def nobody_stays_for_ever(self) -> None:
        """Where nothing is asked, and where an answer is waited for, there is a timer."""
        for one in self.site.connections:
            timed = one._deadline.at or one._blocked.at or one.transport._aborting
            assert timed or one._current is not None
        for transport in self.kernel.transports:
            one = getattr(transport, "protocol", None)
            one = getattr(one, "_wrappedProtocol", one)
            if transport.connected and isinstance(one, connection.ClientConnection):
                assert one._deadline.at or one._response is not None or transport._aborting

    @invariant()
    def logged_once(self) -> None:
        assert not self.logged - self.begun
        assert self.site.active_requests == self.begun.total() - self.logged.total()

    def teardown(self) -> None:
        try:
            self.end()
        finally:
            open_still = self.kernel.close()
            self.patches.close()
        assert open_still == []

    def end(self) -> None:
        """The clients leave, the upstream does nothing any more, and time passes: nothing is left."""
        if not self.clients:
            return
        for client in (*self.clients, *self.gone):
            # Who has only ended its half and does not read has time to: the wire lingers.
            if not client.left or client.socket.stuck or client.socket.full:
                client.close()
                client.left = True
        self.kernel.settle()
        self.kernel.advance(1)
        self.kernel.until(lambda: not self.site.connections)
        assert self.site.connections == set()
        assert self.site.active_requests == 0
        assert self.begun == self.logged
        assert not self.proxy.streams
        assert not self.proxy.streams._listeners
        for _ in range(20):
            self.kernel.advance(31)
            self.kernel.settle()
        assert not any(self.agent._idle.values())
        self.kernel.until(lambda: not self.kernel.left())
        assert self.kernel.left() == []
        self.kernel.forget()
        gc.collect()
        assert [request() for request in self.requests if request() is not None] == []
        seen["requests"] += self.begun.total()
        seen["arrived"] += self.arrived.total()
