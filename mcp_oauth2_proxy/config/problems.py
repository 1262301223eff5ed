"""Mistakes in the configuration: each one readable line, all of them at once."""

from __future__ import annotations

from attrs import frozen


@frozen
class Problem:
    """One mistake: the field's path, what is wrong and what is accepted, and where it was said."""

    path: str
    message: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.path} {self.message}" + (f" [{self.source}]" if self.source else "")


class ConfigError(Exception):
    """The configuration cannot be used; the text has a line for each of :attr:`problems`."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
