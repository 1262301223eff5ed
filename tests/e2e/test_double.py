"""The flow on the embedded identity provider."""

from __future__ import annotations

from tests.e2e import flow, legs, logout
from tests.support.double import RunningDouble
from tests.support.reactor import global_reactor


class OnTheDouble(flow.FlowCase):
    """Serves a double of its own for each test."""

    def setUp(self) -> None:
        self.provider = RunningDouble(global_reactor())
        self.addCleanup(self.provider.stop)
        self.issuer = self.provider.issuer()

    def rotate_keys(self) -> None:
        self.provider.rotate_keys()

    async def announce_logouts(self, url: str) -> None:
        self.provider.announce_logouts(url)

    async def end_session(self, sid: str) -> None:
        self.provider.end_session(sid)


class DoubleFlow(OnTheDouble, flow.Flow):
    """Logging in through the double."""


class DoubleForeign(OnTheDouble, flow.Foreign):
    """The double's tokens that are not for this server."""


class DoubleOutages(OnTheDouble, flow.Outages):
    """A double that is away, or another."""


class DoubleMcpClient(OnTheDouble, flow.McpClient):
    """The official MCP client and the double."""


class DoubleDocuments(OnTheDouble, flow.Documents):
    """Clients with a metadata document, logged in through the double."""


class DoubleReuse(OnTheDouble, flow.Reuse):
    """Refresh tokens that come again, at the double, which rotates them too."""


class DoubleIntrospection(OnTheDouble, flow.Introspection):
    """Asking the double about tokens."""


class DoubleLogout(OnTheDouble, logout.Logout):
    """Sessions that end at the double."""


class DoubleForgetting(OnTheDouble, logout.Forgetting):
    """Sessions that ended at the double, and a store that has lost them."""


class DoubleWorkers(OnTheDouble, legs.Workers):
    """Logins through the double that are spread over workers."""


class DoubleReplicas(OnTheDouble, legs.Replicas):
    """Logins through the double that are spread over replicas."""
