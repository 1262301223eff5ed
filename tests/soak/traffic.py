"""Clients and an upstream that keep to their plans, and see that the proxy between them does its part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.relay.players import unchunk
from tests.soak.plans import Plan, draw

#: Connections of clients at a time.
CLIENTS = 24
#: Seconds after which an answer is missed.
PATIENCE = 60


class Upstream(Protocol):
    """One connection to the upstream, which does what the plan of each request says."""

    transport: Any

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._buffer = b""
        self._plan: Plan | None = None

    def connectionMade(self) -> None:
        self._traffic.connections.add(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._traffic.connections.discard(self)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        if self._plan is None:
            head, mark, rest = self._buffer.partition(b"\r\n\r\n")
            if not mark:
                return
            number = int(head.lower().partition(b"\r\nx-plan: ")[2].partition(b"\r\n")[0])
            self._plan = self._traffic.plans.get(number)
            if self._plan is None:  # its client has left
                self.transport.abortConnection()
                return
            self._buffer = rest
            self._traffic.arrived[number] += 1
            if self._plan.upstream == "early":
                self.transport.write(self._plan.response())
        size = self._plan.size
        body, whole = self._buffer[:size], len(self._buffer) >= size
        if self._plan.framing == "chunked":
            body, whole, size = unchunk(self._buffer)
        if whole:
            if body != self._plan.body:
                raise AssertionError(f"another body than that of {self._plan}")
            plan, self._plan, rest = self._plan, None, self._buffer[size:]
            self._buffer = b""
            self._play(plan)
            if rest:  # the next request, behind a body whose answer came early
                self.dataReceived(rest)

    def _play(self, plan: Plan) -> None:
        kind, transport = plan.upstream, self.transport
        if kind == "reset":
            transport.abortConnection()
        elif kind == "close":
            transport.loseConnection()
        elif kind == "junk":
            transport.write(b"\0\1\2 no HTTP\r\n\r\n")
        elif kind in ("reset-within", "close-within"):
            response = plan.response()
            transport.write(response[: -len(plan.answer) // 2])
            # The first half is on its way before the end is.
            self._traffic.reactor.callLater(
                0, transport.abortConnection if kind == "reset-within" else transport.loseConnection
            )
        elif kind not in ("stall", "early"):
            transport.write(plan.response())
            if kind in ("until-close", "silent-close"):
                transport.loseConnection()
            elif kind == "half":
                transport.loseWriteConnection()


class Line(Protocol):
    """A client's connection."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.lost = False
        self._waiting: Deferred[None] | None = None
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._tell()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost = True
        self._tell()
        self.gone.callback(None)

    def changes(self) -> Deferred[None]:
        """Fire once something has come, or the connection has gone."""
        self._waiting = Deferred()
        return self._waiting

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


class Traffic:
    """Exchanges through the proxy at ``port``, by plans drawn from ``seed``.

    ``seen`` counts what came about; each client waits for ``pause`` seconds after each exchange.
    """

    def __init__(
        self, reactor: Any, seed: int, authorization: Callable[[], bytes], *, pause: float = 0.0
    ) -> None:
        self._pause = pause
        self.seen: Counter[str] = Counter()
        self.plans: dict[int, Plan] = {}
        self.arrived: Counter[int] = Counter()
        self.connections: set[Upstream] = set()
        self.reactor = reactor
        self._random = Random(seed)
        self._authorization = authorization
        self._number = 0
        factory = Factory.forProtocol(lambda: Upstream(self))
        factory.noisy = False
        self._upstream = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.upstream_port: int = self._upstream.getHost().port

    async def run(self, port: int, more: Callable[[int], bool]) -> None:
        """Exchange as long as ``more(number of exchanges so far)``."""

        def plans() -> Iterator[Plan]:
            while more(self._number):
                self._number += 1
                yield draw(self._random, self._number)

        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", port)
        shared = plans()
        await gatherResults(
            [Deferred.fromCoroutine(self._client(endpoint, shared)) for _ in range(CLIENTS)],
            consumeErrors=True,
        )
        # A POST that meets a connection which is being closed may have been sent: that is a 502.
        if self.seen["unlucky"] > self.seen["upstream: silent-close"] + self.seen["upstream: half"]:
            raise AssertionError(f"more failures than the upstream's silent ends explain: {self.seen}")

    async def stop(self) -> None:
        """Stop listening."""
        await self._upstream.stopListening()

    async def _client(self, endpoint: TCP4ClientEndpoint, plans: Iterator[Plan]) -> None:
        line: Line | None = None
        for plan in plans:
            if line is None or line.lost:
                line = await connectProtocol(endpoint, Line())
            batch = [plan]
            if plan.client == "pipeline":
                batch += [another for another, _ in zip(plans, range(2), strict=False)]
            for one in batch:
                self.plans[one.number] = one
                self.seen[f"upstream: {one.upstream}"] += 1
                self.seen[f"client: {one.client}"] += 1
            keep = await self._exchange(line, batch)
            if self._pause:
                await deferLater(self.reactor, self._pause)
            for one in batch:
                del self.plans[one.number]
                if self.arrived.pop(one.number, 0) > 1:
                    raise AssertionError(f"it arrived too often: {one}")
            if not keep:
                line.transport.abortConnection()
                await line.gone
                line = None
        if line is not None:
            line.transport.abortConnection()
            await line.gone

    async def _exchange(self, line: Line, batch: list[Plan]) -> bool:
        """Do what the plans say; return whether the connection may be used again."""
        await self._send(line, batch)
        for place, plan in enumerate(batch):
            if plan.leaves:
                await self._leave(line, plan)
                return False
            if plan.client == "slow":
                line.transport.pauseProducing()
                for _ in range(3):
                    await deferLater(self.reactor, 0)
                if not line.lost:
                    line.transport.resumeProducing()
            if not await self._receive(line, plan, behind=batch[place + 1 :]):
                return False
        return True

    async def _send(self, line: Line, batch: list[Plan]) -> None:
        first = batch[0]
        data = b"".join(plan.request(self._authorization()) for plan in batch)
        if first.client == "leave-asking":
            line.transport.write(data[: self._random.randrange(1, len(data))])
        elif first.client == "pieces":
            cut = sorted(self._random.randrange(len(data)) for _ in range(3))
            for start, end in zip((0, *cut), (*cut, len(data)), strict=True):
                line.transport.write(data[start:end])
                await deferLater(self.reactor, 0)
        else:
            line.transport.write(data)

    async def _leave(self, line: Line, plan: Plan) -> None:
        if plan.client == "half-close":
            line.transport.loseWriteConnection()
            while not line.lost:
                await self._more(line, plan)
            return
        if plan.client == "leave-reading" and plan.upstream != "stall":
            while not (line.received or line.lost):
                await self._more(line, plan)
        for _ in range(self._random.randrange(4)):
            await deferLater(self.reactor, 0)

    async def _more(self, line: Line, plan: Plan) -> None:
        await line.changes().addTimeout(PATIENCE, self.reactor, lambda *_: self._missed(line, plan))

    def _missed(self, line: Line, plan: Plan) -> None:
        raise AssertionError(f"nothing more of {plan} after {line.received[-200:]!r}")

    async def _receive(self, line: Line, plan: Plan, behind: Sequence[Plan]) -> bool:
        """Read one answer and compare it with its plan; return whether another may follow.

        Where an answer ``behind`` it is cut, so is what the client has not read by then of those before it.
        """
        while (answer := split_answer(line.received)) is None and not line.lost:
            await self._more(line, plan)
        if answer is None:
            if all(one.outcome != "cut" for one in (plan, *behind)):
                raise AssertionError(f"cut: {plan}, {line.received[:300]!r}")
            self.seen["cut"] += 1
            return False
        status, closes, body, line.received = answer
        if status == 502:
            lucky = plan.outcome == "bad gateway"
            # The upstream may have closed after its head, before the proxy had passed it on.
            self.seen["bad gateway" if lucky or plan.outcome == "cut" else "unlucky"] += 1
        elif plan.outcome != "whole" or status not in (200, 204) or body != plan.answer:
            raise AssertionError(f"{status} and {len(body)} bytes for {plan}")
        else:
            self.seen["whole"] += 1
        return not closes


def split_answer(data: bytes) -> tuple[int, bool, bytes, bytes] | None:
    """Return status, whether the connection ends, the body, and the rest; ``None`` where it is not whole."""
    head, mark, rest = data.partition(b"\r\n\r\n")
    if not mark:
        return None
    lowered = head.lower()
    status, closes = int(head[9:12]), b"\r\nconnection: close" in lowered
    if status == 204:
        return status, closes, b"", rest
    if b"\r\ntransfer-encoding: chunked" in lowered:
        body, whole, size = unchunk(rest)
        return (status, closes, body, rest[size:]) if whole else None
    size = int(lowered.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
    return (status, closes, rest[:size], rest[size:]) if len(rest) >= size else None
