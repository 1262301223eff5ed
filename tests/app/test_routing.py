"""Which resource answers which URL, with and without a base path."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from treq.client import HTTPClient
from treq.content import text_content
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource

from mcp_oauth2_proxy.app import Root, without_segments
from tests.support.memory import MemoryAgent


class Echo(Resource):
    """Answers with its name, the rest of the path, and the raw target it was handed."""

    isLeaf = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def render(self, request: IRequest) -> bytes:
        rest = b"/".join(request.postpath).decode()
        return f"{self._name}|{rest}|{request.target.decode()}".encode()


class Routing(SynchronousTestCase):
    """Requests find the facade, the health checks, the documents or the relay."""

    def ask(self, base_url: str, target: str) -> str:
        well_known = Resource()
        well_known.putChild(b"oauth-authorization-server", Echo("as"))
        well_known.putChild(b"openid-configuration", Echo("oidc"))
        root = Root(base_url, well_known=well_known, relay=Echo("relay"))
        root.putChild(b".well-known", well_known)
        root.putChild(b"healthz", Echo("healthz"))
        agent = MemoryAgent(root, Clock())
        client = HTTPClient(agent)
        answer = client.get(f"http://127.0.0.1{target}").addCallback(text_content)
        agent.flush()
        return str(self.successResultOf(answer))

    def test_named_children_win_over_the_relay(self) -> None:
        """Health checks and documents are the proxy's own, everything else is the MCP server's."""
        self.assertEqual(self.ask("https://h", "/healthz"), "healthz||/healthz")
        self.assertEqual(self.ask("https://h", "/mcp?a=b"), "relay||/mcp?a=b")

    def test_the_base_path_is_removed_once(self) -> None:
        """Under https://h/p the tree answers at /p/…, and without the prefix where an ingress has cut it."""
        self.assertTrue(self.ask("https://h/p", "/p/healthz").startswith("healthz|"))
        self.assertTrue(self.ask("https://h/p", "/healthz").startswith("healthz|"))
        self.assertTrue(self.ask("https://h/p", "/p/mcp?q=1").endswith("|/mcp?q=1"))
        self.assertTrue(self.ask("https://h/p", "/p").endswith("|/"))
        self.assertTrue(self.ask("https://h/p", "/p/p/x").endswith("|/p/x"))
        self.assertTrue(self.ask("https://h/p", "/px").endswith("|/px"))

    def test_documents_are_found_behind_a_path(self) -> None:
        """{path}/.well-known/… is answered as the path-less document: never by the upstream, never a 401."""
        self.assertTrue(self.ask("https://h", "/mcp/.well-known/openid-configuration").startswith("oidc|"))
        self.assertTrue(self.ask("https://h/p", "/p/.well-known/openid-configuration").startswith("oidc|"))

    @given(
        prefix=st.lists(st.text("abc%2F", min_size=1), min_size=1, max_size=3),
        rest=st.lists(st.text("xyz%2F."), max_size=3),
        query=st.sampled_from(["", "?", "?a=/p/b&c=?"]),
    )
    def test_only_whole_segments_are_removed(self, prefix: list[str], rest: list[str], query: str) -> None:
        """The rest of the target reaches the upstream as the client wrote it, byte for byte."""
        tail = "/" + "/".join(rest)
        target = "/" + "/".join(prefix) + (tail if rest else "") + query
        expected = (tail if rest else "/") + query
        self.assertEqual(without_segments(target.encode(), len(prefix)), expected.encode())
