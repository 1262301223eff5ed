#!/usr/bin/env python3
"""What so many clients need: the arithmetic of ``docs/scaling.md``, from what one operation costs.

    python -m tools.capacity 250000

``tools.generate`` writes its tables into the document.
"""

from __future__ import annotations

import math
import sys

from attrs import frozen

#: Clients of the document's table.
EXAMPLES = (1_000, 10_000, 1_000_000)
BEGIN, END = "<!-- capacity:begin -->", "<!-- capacity:end -->"


@frozen
class Costs:
    """What one operation takes: CPU in milliseconds, memory in kilobytes, as measured (docs/scaling.md)."""

    request: float = 0.121
    new_token: float = 0.342
    stream_opened: float = 1.1
    login: float = 10.0
    refresh: float = 4.1
    stream_memory: float = 14.5
    process_memory: float = 62_000.0
    #: Redis: its CPU, what an answer takes for 30 s, and what stays until the realm's session idle time.
    store_login: float = 0.83
    store_refresh: float = 0.45
    store_answer: float = 4.3
    store_mark: float = 0.136


@frozen
class Habits:
    """What a client does, in seconds, and what an operator wants."""

    #: Between two calls; the life of an access token; how soon everybody logs in on a Monday morning.
    between_calls: float = 10.0
    token_lifetime: float = 300.0
    logins_within: float = 3600.0
    #: Keycloak's *SSO Session Idle*, and ``gate.streamGrace``.
    session_idle: float = 1800.0
    stream_grace: float = 300.0
    #: The share of a core that may be busy, so that a burst and the loss of a replica find room.
    busy: float = 0.6
    #: Streams of one process at most (``server.maxConnections``), and replicas at least.
    streams: int = 10_000
    replicas: int = 2


@frozen
class Need:
    """What it takes, with one process of one core a replica."""

    clients: int
    cores: float
    replicas: int
    memory_mb: float
    calls: float
    logins: float
    refreshes: float
    store_cores: float
    store_mb: float


def distinct(draws: float, of: int) -> float:
    """Return how many of ``of`` replicas are met, on average, by so many requests sent to any of them."""
    return of * (1 - (1 - 1 / of) ** draws)


def need(clients: int, costs: Costs = Costs(), habits: Habits = Habits(), *, sticky: bool = False) -> Need:
    """Return what ``clients`` need; ``sticky`` ones reach the same replica while a token lives.

    A replica judges each token once, so without stickiness a token costs more the more replicas there are:
    the number of replicas is looked for from below.
    """
    calls = clients / habits.between_calls
    refreshes = clients / habits.token_lifetime
    logins = clients / habits.logins_within
    streams = clients / (habits.token_lifetime + habits.stream_grace)
    fixed = (
        calls * costs.request
        + refreshes * costs.refresh
        + logins * costs.login
        + streams * costs.stream_opened
    ) / 1e3
    replicas = max(habits.replicas, math.ceil(clients / habits.streams))
    while True:
        met = 1.0 if sticky else distinct(habits.token_lifetime / habits.between_calls, replicas)
        cores = fixed + refreshes * met * (costs.new_token - costs.request) / 1e3
        if cores <= replicas * habits.busy:
            break
        replicas += 1
    kept = 30 * costs.store_answer + habits.session_idle * costs.store_mark
    return Need(
        clients=clients,
        cores=cores,
        replicas=replicas,
        memory_mb=(costs.process_memory + clients / replicas * costs.stream_memory) / 1e3,
        calls=calls,
        logins=logins,
        refreshes=refreshes,
        store_cores=(logins * costs.store_login + refreshes * costs.store_refresh) / 1e3,
        store_mb=refreshes * kept / 1e3,
    )


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 10 else f"{value:.2g}"


def costs_table(costs: Costs) -> str:
    """Return what one operation takes, as a table."""
    rows = {
        "a request, its token known": (f"{costs.request:.3f} ms", ""),
        "a request with a token that this replica has not seen": (f"{costs.new_token:.3f} ms", ""),
        "opening an event stream, and closing it": (
            f"{costs.stream_opened:.2f} ms",
            f"{costs.stream_memory:.1f} KB while it is open",
        ),
        "a login, from authorize to tokens": (
            f"{costs.login:.1f} ms",
            f"Redis: {costs.store_login:.2f} ms of its CPU",
        ),
        "a refresh": (
            f"{costs.refresh:.1f} ms",
            f"Redis: {costs.store_refresh:.2f} ms, {costs.store_answer} KB for 30 s, "
            f"{costs.store_mark * 1000:.0f} bytes for the realm's session idle time",
        ),
        "a process, with the tokens that it remembers": ("", f"{costs.process_memory / 1e3:.0f} MB"),
    }
    lines = [f"| {name} | {cpu} | {more} |" for name, (cpu, more) in rows.items()]
    return "\n".join(["| | CPU | memory, and the store |", "| --- | ---: | --- |", *lines])


def tables(costs: Costs = Costs(), habits: Habits = Habits()) -> str:
    """Return the document's tables: what one operation takes, what a core and a GB carry, and examples."""
    core = 1000 * habits.busy
    memory = 1e6 - costs.process_memory
    rows = [
        f"| a core, {habits.busy:.0%} busy | {_number(core / costs.request)} requests a second |",
        f"| | or {_number(core / costs.refresh)} refreshes a second |",
        f"| | or {_number(core / costs.login)} logins a second |",
        f"| | or {_number(core / costs.stream_opened)} streams opened a second |",
        f"| a GB | {_number(memory / costs.stream_memory)} open streams, beside the process itself |",
    ]
    carried = "\n".join(["| | carries |", "| --- | --- |", *rows])
    lines = [
        "| clients | calls/s | logins/s | refreshes/s | cores busy | replicas of one core | memory of each "
        "| Redis: core busy | Redis: memory |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for clients in EXAMPLES:
        it = need(clients, costs, habits)
        cells = (
            *map(_number, (it.clients, it.calls, it.logins, it.refreshes, it.cores, it.replicas)),
            f"{_number(it.memory_mb)} MB",
            _number(it.store_cores),
            f"{_number(it.store_mb)} MB",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n\n".join((costs_table(costs), carried, "\n".join(lines)))


def with_capacity(document: str) -> str:
    """Return ``docs/scaling.md`` with the part between its markers made anew."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(need(int(argument)))
