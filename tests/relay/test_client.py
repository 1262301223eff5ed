"""The relay's client: treq's shape, and nothing that mixes one user's traffic with another's."""

from __future__ import annotations

import gzip

from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent, _SynchronousProducer
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mcp_oauth2_proxy.relay.client import RelayClient, abort_response, response_pairs

ZIPPED = gzip.compress(b"hello")


class Upstream(Resource):
    """Answers with everything that a helpful client would act upon, and remembers what it was sent."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bytes, bytes, Headers, bytes]] = []

    def render(self, request: IRequest) -> bytes | int:
        self.seen.append((request.method, request.uri, request.requestHeaders, request.content.read()))
        if request.uri == b"/hang":
            request.write(b"first")
            self.left: Deferred[None] = request.notifyFinish()
            return NOT_DONE_YET
        request.setResponseCode(302)
        request.setHeader(b"Location", b"/elsewhere")
        request.setHeader(b"Content-Encoding", b"gzip")
        request.responseHeaders.addRawHeader(b"Set-Cookie", b"session=alice; Path=/")
        request.responseHeaders.addRawHeader(b"Set-Cookie", b"b=2")
        return ZIPPED


class Client(SynchronousTestCase):
    """:class:`RelayClient` over treq's in-memory agent."""

    def setUp(self) -> None:
        self.upstream = Upstream()
        self.agent = RequestTraversalAgent(self.upstream)
        self.client = RelayClient(self.agent, data_to_body_producer=_SynchronousProducer)

    def test_it_is_treqs(self) -> None:
        """Whatever takes treq's client takes this one."""
        self.assertIsInstance(self.client, HTTPClient)

    def test_what_comes_out_is_what_came_in(self) -> None:
        """Redirects, encodings and duplicate headers reach the caller untouched."""
        response = self.successResultOf(self.client.request("GET", "http://upstream/x?y=%2f"))
        self.assertEqual(response.code, 302)
        body = self.successResultOf(readBody(response))
        self.assertEqual(body, ZIPPED)
        pairs = [(name.lower(), value) for name, value in response_pairs(response)]
        cookies = [value for name, value in pairs if name == b"set-cookie"]
        self.assertEqual(cookies, [b"session=alice; Path=/", b"b=2"])
        self.assertIn((b"content-length", b"%d" % len(ZIPPED)), pairs)
        self.assertEqual([seen[1] for seen in self.upstream.seen], [b"/x?y=%2f"])

    def test_no_cookie_of_one_user_goes_out_with_another(self) -> None:
        """A cookie that one answer set is not sent with the next request."""
        for _ in range(2):
            self.successResultOf(self.client.request("GET", "http://upstream/"))
        self.assertEqual([seen[2].hasHeader(b"cookie") for seen in self.upstream.seen], [False, False])

    def test_nothing_is_added(self) -> None:
        """No Accept-Encoding and no User-Agent of the proxy's own reach the upstream."""
        self.successResultOf(self.client.request("GET", "http://upstream/"))
        for name in (b"accept-encoding", b"user-agent", b"accept"):
            self.assertFalse(self.upstream.seen[0][2].hasHeader(name), name)

    def test_treqs_shortcuts_work(self) -> None:
        """``get`` and ``post`` with ``headers`` and ``data`` are treq's."""
        self.successResultOf(self.client.post("http://upstream/p", headers={"X-A": "1"}, data=b"body"))
        self.successResultOf(self.client.get(b"http://upstream/g", headers=Headers({b"X-A": [b"2"]})))
        (post, _, headers, body), (get, _, others, _) = self.upstream.seen
        self.assertEqual((post, body, headers.getRawHeaders(b"x-a")), (b"POST", b"body", [b"1"]))
        self.assertEqual((get, others.getRawHeaders(b"x-a")), (b"GET", [b"2"]))

    def test_an_unwanted_answer_is_hung_up_on(self) -> None:
        """An answer nobody waits for does not keep its connection."""
        response = self.successResultOf(self.client.request("GET", "http://upstream/hang"))
        abort_response(response)
        self.agent.flush()
        self.failureResultOf(self.upstream.left)
