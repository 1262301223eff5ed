"""Figures of a run: medians over the rounds, and ratios of what was measured in the same round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from attrs import field, frozen

from bench.rows import TARGETS, Row, Sample, Target

#: The contestant that the ratios are about.
SUBJECT = "proxy"


@frozen
class Result:
    """A row's figures: for each peer one sample a round, in the order of the rounds."""

    row: Row
    samples: Mapping[str, Sequence[Sample]] = field(factory=dict)

    def values(self, peer: str) -> list[float]:
        """Return a peer's figure of each round."""
        return [sample.value for sample in self.samples.get(peer, ())]

    def median(self, peer: str) -> float | None:
        """Return a peer's median over the rounds, None where it was not measured."""
        values = self.values(peer)
        return median(values) if values else None

    def ratio(self, peer: str) -> float | None:
        """Return the median over the rounds of subject to ``peer``.

        The two of one round ran seconds apart, so that what else the machine did then hits both.
        """
        pairs = [
            mine / theirs
            for mine, theirs in zip(self.values(SUBJECT), self.values(peer), strict=False)
            if theirs > 0
        ]
        return median(pairs) if pairs else None

    def as_json(self) -> dict[str, Any]:
        """Return everything of the row for the JSON report."""
        return {
            "title": self.row.title,
            "unit": self.row.unit,
            "median": {peer: self.median(peer) for peer in self.samples},
            "ratio": {peer: self.ratio(peer) for peer in self.samples if peer != SUBJECT},
            "rounds": {
                peer: [{"value": sample.value, **sample.detail} for sample in samples]
                for peer, samples in self.samples.items()
            },
        }


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _reached(found: float | None, target: Target) -> str:
    if found is None:
        return "-"
    return "aim" if found <= target.aim else "yes" if found <= target.at_most else "no"


def _lines(results: Sequence[Result], titles: Mapping[str, str]) -> Iterator[list[str]]:
    by_key = {result.row.key: result for result in results}
    for target in TARGETS:
        result = by_key.get(target.row)
        if result is None:
            continue
        found = result.median(SUBJECT) if target.to is None else result.ratio(target.to)
        yield [
            target.title,
            result.row.unit,
            *(
                _figure(result.median(peer), 1 if result.row.unit.startswith("CPU us") else 2)
                for peer in titles
            ),
            _figure(found, 2),
            f"{target.at_most:g}",
            f"{target.aim:g}",
            _reached(found, target),
        ]
    aimless = by_key.keys() - {target.row for target in TARGETS}
    for result in results:
        if result.row.key in aimless:
            yield [
                result.row.title,
                result.row.unit,
                *(_figure(result.median(peer), 1) for peer in titles),
                *(_figure(result.ratio("go"), 2), "", "", ""),
            ]


def table(results: Sequence[Result], titles: Mapping[str, str]) -> str:
    """Return the Markdown table, one line a target; ``titles`` names the peers in the columns' order.

    The last columns: the figure or ratio that the target is about, its bounds, and what is reached.
    """
    lines = list(_lines(results, titles))
    head = ["what", "unit", *titles.values(), "figure", "at most", "aim", "reached"]
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]

    def written(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if column < 2 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([written(head), written(rule), *(written(line) for line in lines)])
