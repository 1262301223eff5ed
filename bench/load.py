"""One stretch of load by wrk, with every answer checked."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Timer

from attrs import frozen

from bench.children import spawn
from bench.errors import BenchError, WrongAnswer
from bench.machine import tool
from bench.traffic import ANSWER
from bench.world import World

#: After how many answers wrk says each time how many there were, and how it begins to.
STEP, _PROGRESS = 200, "answers "
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


def _nobody(_answers: int) -> None:
    """Nobody wants to know."""


def run(
    world: World,
    port: int,
    request: Request,
    *,
    connections: int,
    seconds: int,
    progress: Callable[[int], object] = _nobody,
) -> Seen:
    """Send ``request`` on that many connections, as fast as they are answered, and check each answer.

    ``progress`` is called with the number of right answers so far after each :data:`STEP` of them.

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
        *("--", request.method, *(str(folder / name) for name in contents), str(STEP)),
    ]
    said: list[str] = []
    with spawn(
        command, world.cores.load, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        patience = Timer(seconds + 60, process.kill)
        patience.start()
        try:
            for line in process.stdout or ():
                if line.startswith(_PROGRESS):
                    progress(int(line.removeprefix(_PROGRESS)))
                else:
                    said.append(line)
        except BaseException:
            process.kill()
            raise
        finally:
            patience.cancel()
            patience.join()  # the next program is started without a thread beside: see spawn
    return judge("".join(said))
