"""One stretch of load by wrk, with every answer checked."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from bench.children import spawn
from bench.errors import BenchError, WrongAnswer
from bench.machine import tool
from bench.traffic import ANSWER
from bench.world import World

_SCRIPT = Path(__file__).with_name("load.lua")


@frozen
class Request:
    """What is sent over and over: one of ``tokens``, or each of them once; ``answer`` is the right body."""

    method: str
    path: bytes
    body: bytes
    tokens: Sequence[str]
    answer: bytes = ANSWER


@frozen
class Seen:
    """What wrk saw. Latencies are wrk's own, in seconds."""

    answers: int
    duration: float
    p50: float
    p99: float


def judge(output: str) -> Seen:
    """Return what the script reported in the last line of wrk's output.

    :raises WrongAnswer: an answer was not the right one, a request failed, or there was none at all.
    """
    try:
        report = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise BenchError(f"wrk did not report: {output.strip()[-500:]}") from None
    if report["wrong"]:
        total = report["right"] + report["wrong"]
        raise WrongAnswer(
            f"{report['wrong']} of {total} answers were wrong, the first: {report['first_wrong']}"
        )
    if report["failed"]:
        raise WrongAnswer(f"{report['failed']} requests failed on the connection or took too long")
    if not report["right"]:
        raise WrongAnswer("no request was answered")
    return Seen(
        answers=report["right"],
        duration=report["duration_us"] / 1e6,
        p50=report["p50_us"] / 1e6,
        p99=report["p99_us"] / 1e6,
    )


def run(world: World, port: int, request: Request, *, connections: int, seconds: int) -> Seen:
    """Send ``request`` on that many connections, as fast as they are answered, and check each answer.

    :raises Missing: there is no wrk.
    :raises WrongAnswer: see :func:`judge`.
    """
    folder = world.private("load")
    contents = {"tokens": "\n".join(request.tokens).encode(), "body": request.body, "answer": request.answer}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    command = [
        *(tool("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(_SCRIPT)),
        f"http://127.0.0.1:{port}{request.path.decode()}",
        *("--", request.method, str(folder / "tokens"), str(folder / "body"), str(folder / "answer")),
    ]
    with spawn(
        command, world.cores.load, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            said = process.communicate(timeout=seconds + 60)
        except BaseException:
            process.kill()
            raise
    return judge("".join(said))
