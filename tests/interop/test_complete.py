"""No case is forgotten."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from tests.support.program import REPOSITORY

_NAMED = re.compile(r"def (test_(interop|keycloak)((?:_\d\d)+)_\w+)")


class Complete(SynchronousTestCase):
    """Forty cases of clients, thirty points about Keycloak: each has a test with its number in the name."""

    def numbers(self, kind: str) -> set[int]:
        """Return the numbers that tests of this kind have."""
        found: set[int] = set()
        for path in (REPOSITORY / "tests").rglob("*.py"):
            for match in _NAMED.finditer(path.read_text(encoding="utf-8")):
                if match[2] == kind:
                    found |= {int(number) for number in match[3].split("_") if number}
        return found

    def test_cases(self) -> None:
        """The cases of clients."""
        self.assertEqual(sorted(set(range(1, 41)) - self.numbers("interop")), [])

    def test_points(self) -> None:
        """The points about Keycloak."""
        self.assertEqual(sorted(set(range(1, 31)) - self.numbers("keycloak")), [])
