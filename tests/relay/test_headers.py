"""Header rules: what the upstream sees of a client's headers, and the client of the upstream's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.cookies import cookie_prefix
from mcp_oauth2_proxy.config.model import Action, Mutation, ValueFrom
from mcp_oauth2_proxy.facade.cookies import Cookies
from mcp_oauth2_proxy.relay.headers import HOP_BY_HOP, HeaderRules, key_of, returning, without_cookies
from mcp_oauth2_proxy.relay.values import Inbound

HOST = b"upstream:3000"
REMOVE, ADD, FORWARD = Action.REMOVE, Action.ADD, Mutation(Action.SET_X_FORWARDED)

names = st.sampled_from(
    [
        b"Accept",
        b"X-A",
        b"x-b",
        b"X_B",
        b"Connection",
        b"Keep-Alive",
        b"TE",
        b"Trailer",
        b"Transfer-Encoding",
        b"Transfer_Encoding",
        b"Upgrade",
        b"Proxy-Authorization",
        b"Proxy-Connection",
        b"Expect",
        b"Host",
        b"Content-Length",
        b"content_length",
        b"Forwarded",
        b"X-Forwarded-For",
        b"X-Forwarded-Proto",
        b"X_Forwarded_Host",
        b"X-Real-IP",
        b"Mcp-Session-Id",
    ]
)
field_values = st.text(st.characters(codec="latin-1", exclude_categories=("Cc",)), max_size=20).map(
    lambda text: text.strip().encode("latin-1")
)
header_lines = st.lists(st.tuples(names, field_values), max_size=12)
claim_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=4), children, max_size=3)
    ),
)


def inbound(
    *pairs: tuple[bytes, bytes],
    query: bytes = b"",
    peer: bytes = b"203.0.113.7",
    trusted: bool = False,
    secure: bool = False,
    claims: dict[str, object] | None = None,
) -> Inbound:
    return Inbound(pairs=pairs, query=query, peer=peer, trusted=trusted, secure=secure, claims=claims or {})


def sent(mutations: list[Mutation], request: Inbound, own_cookies: bytes = b"") -> list[tuple[bytes, bytes]]:
    """Return what the upstream gets, without the ``Host`` that is always first."""
    first, *rest = HeaderRules(mutations, host=HOST, own_cookies=own_cookies).outgoing(request)
    assert first == (b"Host", HOST)
    return rest


def add(name: str, **value_from: object) -> Mutation:
    return Mutation(ADD, name, value_from=ValueFrom(**value_from))  # type: ignore[arg-type]


class WhatPasses(SynchronousTestCase):
    """A request without mutations."""

    def test_order_case_and_duplicates_are_kept(self) -> None:
        """The upstream sees the client's headers as the client wrote them."""
        pairs = ((b"X-B", b"1"), (b"accept", b"*/*"), (b"X-B", b"2"), (b"Authorization", b"Bearer t"))
        self.assertEqual(sent([], inbound(*pairs)), list(pairs))

    def test_connection_nominates(self) -> None:
        """What Connection names ends at the proxy, as Connection itself does."""
        request = inbound((b"Connection", b"close, X-Trace"), (b"x-trace", b"1"), (b"X-Keep", b"2"))
        self.assertEqual(sent([], request), [(b"X-Keep", b"2")])

    def test_connection_cannot_take_an_identity_away(self) -> None:
        """A client that nominates a header which a mutation sets does not remove it."""
        request = inbound((b"Connection", b"X-User"), claims={"sub": "alice"})
        self.assertEqual(sent([add("X-User", claim="sub")], request), [(b"X-User", b"alice")])

    def test_forwarded_headers_of_a_stranger_are_removed(self) -> None:
        """A client cannot say where it comes from."""
        forged = [
            (b"Forwarded", b"for=1.1.1.1"),
            (b"X-Forwarded-For", b"1.1.1.1"),
            (b"X_Forwarded_Proto", b"https"),
            (b"X-Forwarded-Anything", b"1"),
            (b"X-Real-IP", b"1.1.1.1"),
        ]
        self.assertEqual(sent([], inbound(*forged)), [])
        self.assertEqual(sent([], inbound(*forged, trusted=True)), forged)

    def test_own_cookies_stay_here(self) -> None:
        """The upstream sees its own cookies, never the proxy's consent and login cookies."""
        prefix = b"__Host-mcp-abcdef-"
        cookie = b"a=1; __Host-mcp-abcdef-browser=x; b=2;__Host-mcp-abcdef-login-9=y"
        self.assertEqual(
            sent([], inbound((b"Cookie", cookie)), own_cookies=prefix), [(b"Cookie", b"a=1; b=2")]
        )
        self.assertEqual(sent([], inbound((b"Cookie", prefix + b"browser=x")), own_cookies=prefix), [])

    def test_the_prefix_is_the_one_the_facade_uses(self) -> None:
        """Every cookie that the facade can set is recognised."""
        for base_url in ("https://mcp.example.com", "http://localhost:8080/base", "https://h/p/"):
            cookies = Cookies.for_base_url(base_url)
            for name in (cookies.browser, cookies.remembered, cookies.login("state")):
                self.assertTrue(name.startswith(cookie_prefix(base_url)), name)

    @given(header_lines, st.booleans())
    def test_hop_by_hop_and_framing_never_leak(self, pairs: list[tuple[bytes, bytes]], trusted: bool) -> None:
        """Whatever a client sends, in whatever spelling, the upstream's message is framed by the proxy."""
        gone = HOP_BY_HOP | {b"content-length", b"expect", b"host"}
        for name, _ in sent([FORWARD], inbound(*pairs, trusted=trusted)):
            self.assertNotIn(key_of(name), gone)
            self.assertFalse(name.lower().startswith(b"proxy-"))

    @given(header_lines)
    def test_returning_keeps_all_but_the_connections_own(self, pairs: list[tuple[bytes, bytes]]) -> None:
        """The client sees the upstream's lines in their order, without those about the connection."""
        result = returning(pairs)
        remaining = iter(pairs)
        self.assertTrue(all(pair in remaining for pair in result))
        self.assertFalse([name for name, _ in result if key_of(name) in HOP_BY_HOP])
        if not any(name == b"Connection" for name, _ in pairs):
            kept = [pair for pair in pairs if pair[0] in (b"Accept", b"X-A", b"Mcp-Session-Id")]
            self.assertEqual([pair for pair in result if pair in kept], kept)

    def test_returning_follows_connection_but_not_into_framing(self) -> None:
        """An upstream that nominates Content-Length cannot make its answer lose its length."""
        pairs = [(b"Connection", b"X-Hop, Content-Length"), (b"X-Hop", b"1"), (b"Content-Length", b"2")]
        self.assertEqual(returning(pairs), [(b"Content-Length", b"2")])

    @given(st.lists(st.tuples(st.sampled_from([b"own-a", b"b", b"c"]), st.binary(max_size=3)), max_size=6))
    def test_cookies_of_others_are_untouched(self, crumbs: list[tuple[bytes, bytes]]) -> None:
        """Removing the proxy's cookies changes nothing about the others, nor about their order."""
        clean = [(name, value.hex().encode()) for name, value in crumbs]
        joined = b"; ".join(name + b"=" + value for name, value in clean)
        others = b"; ".join(name + b"=" + value for name, value in clean if not name.startswith(b"own-"))
        self.assertEqual(without_cookies(joined, b"own-"), others)


class Mutations(SynchronousTestCase):
    """``headers.mutations``, each row of its table."""

    def test_remove(self) -> None:
        """``remove`` takes every line of the name, in any case and in the spelling CGI cannot tell apart."""
        request = inbound((b"X-Unwanted-Header", b"1"), (b"x_unwanted_header", b"2"), (b"X-Other", b"3"))
        self.assertEqual(sent([Mutation(REMOVE, "x-unwanted-header")], request), [(b"X-Other", b"3")])

    def test_remove_authorization(self) -> None:
        """The client's token reaches the upstream unless the operator says otherwise."""
        request = inbound((b"Authorization", b"Bearer t"))
        self.assertEqual(sent([], request), [(b"Authorization", b"Bearer t")])
        self.assertEqual(sent([Mutation(REMOVE, "Authorization")], request), [])

    def test_add_static_value_replaces(self) -> None:
        """``add`` sets the header: what the client sent under that name is gone."""
        request = inbound((b"x-forwarded-by", b"client"), (b"X_Forwarded_By", b"client"))
        mutation = Mutation(ADD, "X-Forwarded-By", value="mcp-oauth2-proxy")
        self.assertEqual(sent([mutation], request), [(b"X-Forwarded-By", b"mcp-oauth2-proxy")])

    def test_add_from_request_header(self) -> None:
        """``requestHeader`` reads the request as it came in, ``Host`` included, the first of several."""
        request = inbound((b"Host", b"proxy.example.com"), (b"X-A", b"1"), (b"x-a", b"2"))
        mutations = [
            Mutation(REMOVE, "X-A"),
            add("X-Original-Host", request_header="Host"),
            add("X-Copy", request_header="x-a"),
        ]
        self.assertEqual(
            sent(mutations, request), [(b"X-Original-Host", b"proxy.example.com"), (b"X-Copy", b"1")]
        )

    def test_add_from_query_parameter(self) -> None:
        """``queryParameter`` takes the first of its name, decoded as a form."""
        mutation = add("X-Query-Token", query_parameter="token")
        for query, expected in (
            (b"a=1&token=s3%2Fcret+x&token=2", b"s3/cret x"),
            (b"%74oken=v", b"v"),
            (b"token=%C3%A9", "é".encode()),
        ):
            self.assertEqual(sent([mutation], inbound(query=query)), [(b"X-Query-Token", expected)])

    def test_add_from_authorization_header(self) -> None:
        """``authorizationHeader: true`` gives the Bearer token without its scheme."""
        mutation = add("X-Auth-Header", authorization_header=True)
        request = inbound((b"Authorization", b"bearer  abc.def"))
        self.assertEqual(sent([mutation], request)[-1], (b"X-Auth-Header", b"abc.def"))
        basic = inbound((b"Authorization", b"Basic Zm9v"))
        self.assertNotIn(b"X-Auth-Header", dict(sent([mutation], basic)))

    def test_add_from_claim(self) -> None:
        """``claim`` writes strings, numbers, booleans and lists, from nested objects too."""
        claims = {
            "sub": "alice",
            "level": 3,
            "email_verified": True,
            "groups": ["a", "b"],
            "realm_access": {"roles": ["x", "y"]},
            "https://example.com/x": "exact",
            "name": "José",
        }
        for name, expected in (
            ("sub", b"alice"),
            ("level", b"3"),
            ("email_verified", b"true"),
            ("groups", b"a,b"),
            ("realm_access.roles", b"x,y"),
            ("https://example.com/x", b"exact"),
            ("name", "José".encode()),
        ):
            self.assertEqual(
                sent([add("X-C", claim=name)], inbound(claims=claims)), [(b"X-C", expected)], name
            )

    def test_no_source_no_header(self) -> None:
        """Where the source is absent the header is removed, so that a client cannot supply it itself."""
        forged = inbound((b"X-User", b"admin"), (b"x_user", b"admin"), claims={"other": {"a": 1}})
        for mutation in (
            add("X-User", claim="sub"),
            add("X-User", claim="other"),
            add("X-User", claim="other.b"),
            add("X-User", query_parameter="user"),
            add("X-User", request_header="X-None"),
            add("X-User", authorization_header=True),
        ):
            self.assertEqual(sent([mutation], forged), [], mutation)

    def test_values_that_would_read_as_another_are_refused(self) -> None:
        """Line breaks, blanks at the ends and commas within list entries make no header at all."""
        for claim in (
            "a\r\nX-Admin: 1",
            "a\x00",
            "admin ",
            " admin",
            "",
            "a\u2028b",
            ["staff,admin"],
            ["a", ""],
            ["a "],
        ):
            self.assertEqual(sent([add("X-C", claim="c")], inbound(claims={"c": claim})), [], repr(claim))
        for query in (b"q=a%0d%0aX-Admin:%201", b"q=%00", b"q=%ff", b"q=", b"q"):
            self.assertEqual(sent([add("X-C", query_parameter="q")], inbound(query=query)), [], query)

    def test_in_order(self) -> None:
        """A later step sees what an earlier one did to the same header."""
        first, second = Mutation(ADD, "X-A", value="1"), Mutation(ADD, "X-A", value="2")
        self.assertEqual(sent([first, second], inbound()), [(b"X-A", b"2")])
        self.assertEqual(sent([first, Mutation(REMOVE, "x-a")], inbound()), [])
        self.assertEqual(sent([Mutation(REMOVE, "x-a"), first], inbound((b"X-A", b"0"))), [(b"X-A", b"1")])

    def test_host_can_be_set(self) -> None:
        """An operator may name another host to the upstream; there is always exactly one."""
        rules = HeaderRules([Mutation(ADD, "Host", value="virtual.example.com")], host=HOST)
        self.assertEqual(rules.outgoing(inbound((b"Host", b"proxy"))), [(b"Host", b"virtual.example.com")])

    def test_framing_cannot_be_added(self) -> None:
        """A mutation that would frame the message is refused at start."""
        for name in ("Content-Length", "transfer-encoding", "Connection", "Proxy-X", ""):
            self.assertRaises(ValueError, HeaderRules, [Mutation(ADD, name, value="1")], host=HOST)
        self.assertRaises(ValueError, HeaderRules, [Mutation(ADD, "X-A", value="1\r\nX: 2")], host=HOST)

    @given(
        header_lines,
        st.binary(max_size=30),
        st.dictionaries(st.sampled_from(["a", "b"]), claim_values),
        st.lists(
            st.sampled_from(
                [
                    FORWARD,
                    Mutation(REMOVE, "X-A"),
                    Mutation(ADD, "X-A", value="v"),
                    add("X-A", request_header="x-b"),
                    add("X-B", claim="a"),
                    add("X-C", claim="a.b"),
                    add("X-C", query_parameter="t"),
                ]
            ),
            max_size=6,
        ),
    )
    def test_no_line_break_ever_leaves(
        self,
        pairs: list[tuple[bytes, bytes]],
        query: bytes,
        claims: dict[str, object],
        mutations: list[Mutation],
    ) -> None:
        """No claim, query or header can put a line of its own into the upstream's request."""
        request = inbound(*pairs, query=b"t=" + query, claims=claims)
        for name, value in sent(mutations, request):
            self.assertNotRegex(name + value, rb"[\r\n\x00]")

    @given(header_lines, st.lists(st.sampled_from(["1", "2", None]), min_size=1, max_size=6))
    def test_the_last_step_on_a_name_decides(
        self, pairs: list[tuple[bytes, bytes]], steps: list[str | None]
    ) -> None:
        """Of several steps on one header the last one is what the upstream sees."""
        mutations = [
            Mutation(REMOVE, "X-A") if value is None else Mutation(ADD, "x-a", value=value) for value in steps
        ]
        seen = [value for name, value in sent(mutations, inbound(*pairs)) if key_of(name) == b"x-a"]
        self.assertEqual(seen, [] if steps[-1] is None else [steps[-1].encode()])


class SetXForwarded(SynchronousTestCase):
    """``set-x-forwarded``, as Go's ``ProxyRequest.SetXForwarded``."""

    def test_from_the_connection(self) -> None:
        """The client's address, its Host, and the connection's protocol; what it claimed itself is gone."""
        request = inbound(
            (b"Host", b"mcp.example.com"), (b"X-Forwarded-For", b"1.1.1.1"), (b"X-Forwarded-Proto", b"ftp")
        )
        expected = [
            (b"X-Forwarded-For", b"203.0.113.7"),
            (b"X-Forwarded-Host", b"mcp.example.com"),
            (b"X-Forwarded-Proto", b"http"),
        ]
        self.assertEqual(sent([FORWARD], request), expected)
        request.secure = True
        self.assertEqual(sent([FORWARD], request)[-1], (b"X-Forwarded-Proto", b"https"))

    def test_a_trusted_proxys_chain_goes_on(self) -> None:
        """Behind a trusted ingress the chain grows, and its host and protocol stay."""
        request = inbound(
            (b"Host", b"internal"),
            (b"X-Forwarded-For", b"198.51.100.1"),
            (b"X-Forwarded-For", b"198.51.100.2"),
            (b"X-Forwarded-Proto", b"https"),
            (b"X-Forwarded-Host", b"mcp.example.com"),
            peer=b"10.0.0.1",
            trusted=True,
        )
        self.assertEqual(
            sent([FORWARD], request),
            [
                (b"X-Forwarded-For", b"198.51.100.1, 198.51.100.2, 10.0.0.1"),
                (b"X-Forwarded-Host", b"mcp.example.com"),
                (b"X-Forwarded-Proto", b"https"),
            ],
        )

    def test_without_an_address(self) -> None:
        """A client without an address (a UNIX socket) adds none."""
        names = [name for name, _ in sent([FORWARD], inbound((b"Host", b"h"), peer=b""))]
        self.assertEqual(names, [b"X-Forwarded-Host", b"X-Forwarded-Proto"])
