"""``python -m bench``: measure, and print the table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.errors import BenchError
from bench.machine import choose_cores, facts, raise_file_limit
from bench.peers import PEERS
from bench.program import run
from bench.results import Result, table
from bench.rows import DEFAULT_ROWS, ROWS
from bench.session import available, measure, possible
from bench.world import surroundings


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected 1 or more")
    return number


def _chosen(names: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a parser of a comma-separated choice among ``names``."""

    def parse(text: str) -> list[str]:
        asked = [name.strip() for name in text.split(",") if name.strip()]
        unknown = [name for name in asked if name not in names]
        if unknown or not asked:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown) or 'nothing'}: expected of {', '.join(names)}"
            )
        return asked

    return parse


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the command line's options; exits with 2 where they are wrong."""
    rows, peers = [row.key for row in ROWS], [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="What the relay costs, beside others."
    )
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds of each row (default: 5)")
    parser.add_argument("--seconds", type=_positive, default=2, help="seconds of load at a time (default: 2)")
    parser.add_argument(
        "--rows",
        type=_chosen(rows),
        default=DEFAULT_ROWS,
        help=f"of {', '.join(rows)} (default: those of the table)",
    )
    parser.add_argument(
        "--peers", type=_chosen(peers), default=peers, help=f"of {', '.join(peers)} (default: all)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there as well")
    return parser.parse_args(arguments)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def report(results: Sequence[Result], titles: dict[str, str], machine: dict[str, str]) -> str:
    """Return what is printed at the end."""
    lines = [f"{name}: {value}" for name, value in machine.items()]
    return "\n".join([*lines, "", table(results, titles)])


def main(arguments: Sequence[str]) -> int:
    """Measure; return 0, or 1 where nothing could be measured or an answer was wrong."""
    chosen = options(arguments)
    cores, files = choose_cores(), raise_file_limit()
    try:
        peers = available([peer for peer in PEERS if peer.name in chosen.peers], _say)
        rows = possible([row for row in ROWS if row.key in chosen.rows], _say)
        if not peers or not rows:
            _say("nothing can be measured on this machine")
            return 1
        machine = facts(cores)
        with surroundings(cores, files) as world:
            machine["upstream"] = world.answered_by
            results = [
                measure(row, peers, world, rounds=chosen.rounds, seconds=chosen.seconds, say=_say)
                for row in rows
            ]
    except BenchError as error:
        _say(f"no result: {error}")
        return 1
    titles = {peer.name: peer.title for peer in peers}
    print(report(results, titles, machine))
    if chosen.json is not None:
        document = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine,
            "rounds": chosen.rounds,
            "seconds": chosen.seconds,
            "rows": {result.row.key: result.as_json() for result in results},
        }
        chosen.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    run(main)
