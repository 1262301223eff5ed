"""HTTP in memory: a client's Agent on one side, the wire's own server on the other, no socket between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from treq.testing import RequestTraversalAgent
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from mcp_oauth2_proxy.wire.limits import Limits
from mcp_oauth2_proxy.wire.site import WireSite


class MemoryAgent(RequestTraversalAgent):
    """treq's in-memory agent, with the resources served by :class:`WireSite` as the product serves them.

    ``flush`` carries bytes both ways until neither side has any, and must be called after everything
    that a resource does later.
    """

    def __init__(
        self,
        root: IResource,
        clock: IReactorTime,
        *,
        limits: Limits = Limits(),  # noqa: B008 (immutable)
        on_done: Callable[[Any], None] | None = None,
    ) -> None:
        super().__init__(root)
        self.site = WireSite(root, reactor=clock, limits=limits, on_done=on_done)
        self._serverFactory = self.site
