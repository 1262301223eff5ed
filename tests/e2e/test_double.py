"""The flow on the embedded identity provider."""

from __future__ import annotations

from tests.e2e import flow, legs, logout
from tests.support import double


class OnTheDouble(double.OnTheDouble, flow.FlowCase):
    """The program in front of it."""


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


class DoubleWorkersDocuments(OnTheDouble, legs.Documents):
    """Logins by document through the double that are spread over workers."""


class DoubleReplicas(OnTheDouble, legs.Replicas):
    """Logins through the double that are spread over replicas."""
