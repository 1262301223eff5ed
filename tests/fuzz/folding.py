"""Folds what the fuzzer has found interesting into the seeds that every run begins with."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import frozen

from tests.fuzz.fuzzing import MAX_BYTES
from tests.fuzz.targets import KEPT, cases, kept
from tests.support.program import REPOSITORY

#: Bytes that the seeds of one direction may take in the tree, as they are written there.
ROOM = 100_000
#: Seconds for one pass over the inputs, some of which may take long on a busy machine.
_PATIENCE = 1800


@frozen
class Folded:
    """The seeds of one direction as they are now, and how many there was no room for."""

    target: str
    seeds: Sequence[bytes]
    left_out: int

    def __str__(self) -> str:
        size = sum(map(len, _lines(self.seeds)))
        text = f"{self.target}: {len(self.seeds)} seeds, {size} bytes"
        return f"{text}; no room for {self.left_out}, the longest" if self.left_out else text


def fold(target: str, caches: Iterable[Path]) -> Folded:
    """Write the seeds of ``target`` anew, from those there are and from what ``caches`` hold.

    What reaches nothing new any more is left out, and so is what the corpus of attacks reaches.
    """
    found = [path.read_bytes() for cache in caches for path in sorted((cache / target / "corpus").glob("*"))]
    chosen = minimal(target, _short(cases(target)), _short([*kept(target), *found]))
    seeds = fitting(chosen, ROOM)
    (KEPT / f"{target}.txt").write_text("".join(_lines(seeds)), encoding="ascii")
    return Folded(target, seeds, len(chosen) - len(seeds))


def minimal(target: str, known: Iterable[bytes], found: Iterable[bytes]) -> list[bytes]:
    """Return those of ``found`` that reach what ``known`` does not, the shortest that do, in a fixed order.

    libFuzzer decides, by ``-merge=1``; what breaks a rule is passed over. Raises ``RuntimeError`` with its
    output where it fails.
    """
    with tempfile.TemporaryDirectory() as directory:
        have, more = (Path(directory) / name for name in ("have", "more"))
        names = {have: _put(have, known), more: _put(more, found)}
        options = ["-merge=1", f"-artifact_prefix={directory}/", str(have), str(more)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.one", target, *options],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        if done.returncode != 0 or "MERGE-OUTER: successful" not in done.stderr:
            raise RuntimeError(f"libFuzzer cannot merge:\n{done.stderr[-3000:]}")
        new = [path.read_bytes() for path in have.iterdir() if path.name not in names[have]]
    return sorted(new, key=lambda data: (len(data), data))


def fitting(seeds: Sequence[bytes], room: int) -> list[bytes]:
    """Return as many of the first seeds as may be written in so many bytes."""
    taken: list[bytes] = []
    for seed, line in zip(seeds, _lines(seeds), strict=True):
        room -= len(line)
        if room < 0:
            break
        taken.append(seed)
    return taken


def _short(inputs: Iterable[bytes]) -> list[bytes]:
    """Return those that a run of the fuzzer has too."""
    return [data for data in inputs if len(data) <= MAX_BYTES]


def _lines(seeds: Iterable[bytes]) -> list[str]:
    return [f"{seed!r}\n" for seed in seeds]


def _put(directory: Path, inputs: Iterable[bytes]) -> set[str]:
    """Write the inputs into a new directory, each by the name that its content has; return the names."""
    directory.mkdir()
    names = set()
    for data in inputs:
        name = hashlib.sha1(data).hexdigest()
        (directory / name).write_bytes(data)
        names.add(name)
    return names
