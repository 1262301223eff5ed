"""The threat model names tests that exist, and no defence without one."""

from __future__ import annotations

import re
from importlib import import_module

from twisted.trial.unittest import SynchronousTestCase

from tests.support.program import REPOSITORY

_TEST = re.compile(r"`([a-z0-9_.]+)\.([A-Z]\w+)\.(test_\w+)`")


class ThreatModel(SynchronousTestCase):
    """``docs/threat-model.md``."""

    def setUp(self) -> None:
        self.text = (REPOSITORY / "docs" / "threat-model.md").read_text(encoding="utf-8")

    def test_every_named_test_exists(self) -> None:
        """By module, class and method."""
        named = _TEST.findall(self.text)
        self.assertGreater(len(named), 100)
        for module, case, method in named:
            found = getattr(import_module(f"tests.{module}"), case, None)
            self.assertTrue(callable(getattr(found, method, None)), f"{module}.{case}.{method}")

    def test_every_threat_has_one(self) -> None:
        """No row of the threats, and no section of RFC 9700, is held by words alone."""
        threats = self.text.partition("## Threats")[2].partition("## Accepted")[0]
        sections = self.text.partition("## RFC 9700")[2].partition("## MCP")[0]
        rows = [line for line in (threats + sections).splitlines() if line.startswith("| ")]
        claims = [row for row in rows if not row.startswith(("| Threat |", "| Section |"))]
        self.assertGreater(len(claims), 50)
        self.assertEqual([row for row in claims if not _TEST.search(row)], [])
