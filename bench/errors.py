"""What can go wrong while measuring, apart by what it means for the run."""

from __future__ import annotations


class BenchError(Exception):
    """The base of everything the bench says about itself in one line."""


class Missing(BenchError):
    """The machine lacks something: what needs it is left out, the rest is measured."""


class WrongAnswer(BenchError):
    """A peer answered wrongly: a figure of that would be worthless, so the run ends."""


class StartFailed(BenchError):
    """A process that the bench needs ended at once or did not begin to answer."""
