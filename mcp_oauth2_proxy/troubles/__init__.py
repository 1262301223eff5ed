"""Every reason for which the proxy refuses something: what happened, and what person and operator can do.

The keys are the reason codes in the log. Error pages and ``docs/troubleshooting.md`` (by
``tools.generate``) are made from it.
"""

from __future__ import annotations

from mcp_oauth2_proxy.troubles.requests import REQUESTS
from mcp_oauth2_proxy.troubles.tokens import TOKENS
from mcp_oauth2_proxy.troubles.trouble import Trouble

#: Where a reason is met, with the reasons met there.
TROUBLES: dict[str, dict[str, Trouble]] = {**TOKENS, **REQUESTS}

#: The same by reason code alone.
BY_CODE: dict[str, Trouble] = {
    code: trouble for place in TROUBLES.values() for code, trouble in place.items()
}
