"""Medians, ratios and the table."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from bench.peers import PEERS
from bench.results import Result, table
from bench.rows import ROWS, TARGETS, Sample

TITLES = {"proxy": "this proxy", "go": "Go peer", "nginx": "nginx, no auth"}


def result(**values: list[float]) -> Result:
    """Return a result of the first row with these figures."""
    samples = {
        peer: [Sample(value, {"requests": 1.0}) for value in figures] for peer, figures in values.items()
    }
    return Result(ROWS[0], samples)


class Figures(SynchronousTestCase):
    """One figure stands for several rounds."""

    def test_a_disturbed_round_does_not_show(self) -> None:
        """A round in which the machine did something else leaves the median alone."""
        self.assertEqual(result(proxy=[60, 900, 62]).median("proxy"), 62)

    def test_ratios_pair_what_ran_together(self) -> None:
        """A machine that slowed down for both in one round changes no ratio."""
        found = result(proxy=[50, 100, 500], go=[100, 200, 1000])
        self.assertEqual(found.ratio("go"), 0.5)

    def test_what_was_not_measured_has_no_figure(self) -> None:
        """Without nginx there is a dash, not a zero."""
        found = result(proxy=[50.0])
        self.assertIsNone(found.median("nginx"))
        self.assertIsNone(found.ratio("nginx"))
        lines = table([found], {"proxy": "this proxy", "nginx": "n"}).splitlines()
        cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
        self.assertEqual(cells[2:5] + cells[-1:], ["50.0", "-", "-", "-"])

    def test_the_report_keeps_every_round(self) -> None:
        """The JSON file lets a reader look behind the medians."""
        document: dict[str, Any] = result(proxy=[50, 60], go=[100, 100]).as_json()
        self.assertEqual(document["median"], {"proxy": 55, "go": 100})
        self.assertAlmostEqual(document["ratio"]["go"], 0.55)
        self.assertEqual([entry["value"] for entry in document["rounds"]["proxy"]], [50, 60])


class Table(SynchronousTestCase):
    """What is printed is a Markdown table, so that it can be pasted into the documentation."""

    def test_lines_up(self) -> None:
        """Every line has the same width and the same columns."""
        lines = table([result(proxy=[222.64], go=[100.0], nginx=[20])], TITLES).splitlines()
        self.assertEqual(len({len(line) for line in lines}), 1)
        self.assertEqual({line.count("|") for line in lines}, {10})
        cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
        self.assertEqual(cells[2:], ["222.6", "100.0", "20.0", "2.23", "0.6", "0.45", "no"])

    def test_one_line_a_target(self) -> None:
        """The first row has two: its ratio to the Go peer, and that to nginx."""
        lines = table([result(proxy=[50.0], go=[100.0], nginx=[10.0])], TITLES).splitlines()[2:]
        reached = [[cell.strip() for cell in line.strip("|").split("|")][5:] for line in lines]
        self.assertEqual(reached, [["0.50", "0.6", "0.45", "yes"], ["5.00", "6", "4", "yes"]])

    def test_every_target_is_measured(self) -> None:
        """No line of the table is without a measurement, and none of a peer that nobody starts."""
        self.assertLessEqual({target.row for target in TARGETS}, {row.key for row in ROWS})
        self.assertLessEqual({target.to for target in TARGETS} - {None}, {peer.name for peer in PEERS})
