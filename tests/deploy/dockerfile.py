"""Reads a Dockerfile: instructions, stages, flags and variables, as far as ours uses them.

What is not understood raises :exc:`ValueError`, so that no step is left out unseen.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

_KNOWN = frozenset(
    {
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "LABEL",
        "RUN",
        "STOPSIGNAL",
        "USER",
        "WORKDIR",
    }
)
_FLAG = re.compile(r"--([a-z]+)=(\S+)\s+")


@frozen
class Instruction:
    """One step: ``RUN --mount=... pip ...`` is ``Instruction("RUN", {"mount": "..."}, "pip ...")``."""

    name: str
    flags: Mapping[str, str]
    value: str

    def words(self) -> list[str]:
        """Return the value as an exec form's list, or as words of a shell."""
        if self.value.startswith("["):
            words: list[str] = json.loads(self.value)
            return words
        return shlex.split(self.value)

    def pairs(self) -> dict[str, str]:
        """Return ``NAME=value ...`` of ARG, ENV and LABEL."""
        return dict(word.partition("=")[::2] for word in self.words())


@frozen
class Stage:
    """``FROM base AS name`` and what follows it."""

    base: str
    name: str
    steps: list[Instruction] = field(factory=list)


def substitute(text: str, variables: Mapping[str, str]) -> str:
    """Return ``text`` with each ``${NAME}`` replaced."""
    return re.sub(r"\$\{(\w+)\}", lambda found: variables[found[1]], text)


def parse(text: str) -> list[Stage]:
    """Return the stages of a Dockerfile's text."""
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).split("\n"):
        name, _, value = line.partition(" ")
        if name not in _KNOWN:
            raise ValueError(f"an instruction that this test does not carry out: {line}")
        value, flags = value.strip(), {}
        while found := _FLAG.match(value):
            flags[found[1]], value = found[2], value[found.end() :]
        if name == "FROM":
            base, _, stage = value.partition(" AS ")
            stages.append(Stage(base, stage))
        else:
            stages[-1].steps.append(Instruction(name, flags, value))
    return stages


def parse_file(path: Path) -> list[Stage]:
    """Return the stages of the Dockerfile at ``path``."""
    return parse(path.read_text(encoding="utf-8"))
