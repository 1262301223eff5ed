"""Every reason that the log can name is explained, and nothing else is."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.facade.errors import Reason as FacadeReason
from mcp_oauth2_proxy.gate.model import Reason as TokenReason
from mcp_oauth2_proxy.relay.reasons import Reason as RelayReason
from mcp_oauth2_proxy.troubles import BY_CODE, TROUBLES
from mcp_oauth2_proxy.wire.answers import MALFORMED, TOO_MANY_CONNECTIONS
from tests.support.program import REPOSITORY
from tools.generate import with_reasons


class Troubles(SynchronousTestCase):
    """The one table."""

    def test_complete(self) -> None:
        """Each reason of facade, gate, relay and wire, once."""
        reasons = [reason.value for kind in (FacadeReason, TokenReason, RelayReason) for reason in kind]
        reasons += [MALFORMED, TOO_MANY_CONNECTIONS]
        self.assertEqual([code for code, count in Counter(reasons).items() if count > 1], [])
        self.assertEqual(set(reasons), set(BY_CODE))
        self.assertEqual(len(BY_CODE), sum(len(place) for place in TROUBLES.values()))

    def test_texts(self) -> None:
        """Whole sentences; what the person reads has no markup, since a page shows it."""
        for code, trouble in BY_CODE.items():
            for text in (trouble.what, trouble.person, trouble.operator):
                self.assertRegex(text, r"^[A-Z`].*\.$", code)
            self.assertNotIn("`", trouble.person, code)

    def test_the_page_is_current(self) -> None:
        """docs/troubleshooting.md is what tools/generate.py writes: run it after a change."""
        page = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
        self.assertEqual(page, with_reasons(page))
