"""Resource identifiers: what a user types, what clients make of it, and what is the same."""

from __future__ import annotations

from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.gate.resource_id import (
    MAX_LENGTH,
    canonical,
    metadata_url,
    resource_url,
    same_resource,
    within,
)


class Urls(SynchronousTestCase):
    """From a path of the proxy to its public URLs."""

    def test_resource_is_what_the_user_typed(self) -> None:
        """The resource of a path is the base URL and that path, without a trailing slash."""
        self.assertEqual(resource_url("https://h", "/mcp"), "https://h/mcp")
        self.assertEqual(resource_url("https://h", "/mcp/"), "https://h/mcp/")
        self.assertEqual(resource_url("https://h", "/"), "https://h")
        self.assertEqual(resource_url("https://h", ""), "https://h")
        self.assertEqual(resource_url("https://h:8443/p", "/mcp"), "https://h:8443/p/mcp")

    def test_metadata_is_at_the_path_suffixed_url(self) -> None:
        """The well-known part stands between host and path (RFC 9728 section 3.1)."""
        well_known = "/.well-known/oauth-protected-resource"
        self.assertEqual(metadata_url("https://h", "/mcp"), f"https://h{well_known}/mcp")
        self.assertEqual(metadata_url("https://h", "/"), f"https://h{well_known}")
        self.assertEqual(metadata_url("https://h:8443/p", "/mcp/"), f"https://h:8443{well_known}/p/mcp/")
        self.assertEqual(metadata_url("https://h/p", ""), f"https://h{well_known}/p")


class Same(SynchronousTestCase):
    """Four spellings are equal, and nothing else."""

    def test_equal_spellings(self) -> None:
        """Trailing slash, dot segments, case of scheme and host, default port."""
        for spelling in (
            "https://h.example/a/b",
            "https://h.example/a/b/",
            "https://h.example/a/./b",
            "https://h.example/a/x/../b",
            "https://h.example/../a/b/.",
            "HTTPS://H.Example/a/b",
            "https://h.example:443/a/b",
            "https://h.example:/a/b",
        ):
            self.assertTrue(same_resource("https://h.example/a/b", spelling), spelling)
        self.assertTrue(same_resource("http://h:80", "http://H/"))
        self.assertTrue(same_resource("http://[::1]:80/x", "http://[::1]/x/"))

    def test_different_resources(self) -> None:
        """Everything else tells two resources apart."""
        for other in (
            "https://h.example/a/B",
            "https://h.example/a//b",
            "https://h.example/a/b//",
            "https://h.example/a/b/c",
            "https://h.example/a",
            "https://h.example/a/b?x",
            "https://h.example/a/%62",
            "https://h.example/a/%2e/b",
            "https://h.example/a/...b",
            "https://h.example:8443/a/b",
            "https://h.example:80/a/b",
            "http://h.example/a/b",
            "https://h.example./a/b",
            "https://sub.h.example/a/b",
        ):
            self.assertFalse(same_resource("https://h.example/a/b", other), other)

    def test_no_resource_identifiers(self) -> None:
        """What is no absolute http(s) URL without user, fragment and blanks is equal to nothing at all."""
        for other in (
            "",
            "mcp",
            "/a/b",
            "//h/a",
            "ftp://h/a",
            "https:///a",
            "https://",
            "https://h/a#",
            "https://h/a#b",
            "https://user@h/a",
            "https://@h/a",
            "https://h:x/a",
            "https://h:99999/a",
            "https://[::1/a",
            "https://h/a b",
            "https://h\\a",
            "https://h/\n",
            "https://hé/a",
            "https://h/" + "a" * MAX_LENGTH,
            "javascript:alert(1)",
        ):
            self.assertIsNone(canonical(other), other)
            self.assertFalse(same_resource(other, other), other)

    def test_within(self) -> None:
        """A client may name the base, its bare origin, or anything below; never a neighbour."""
        for resource in ("https://h/p", "https://h/p/", "https://h", "https://h/p/mcp", "https://h/p?x"):
            self.assertTrue(within("https://h/p", resource), resource)
        for resource in ("https://h/pq", "https://h/q", "https://h/p/../q", "https://i/p", "http://h/p", "p"):
            self.assertFalse(within("https://h/p", resource), resource)


URLS = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https", "HTTP", "ftp"]),
    st.sampled_from(["h", "H", "h:80", "h:443", "[::1]", "u@h", ""]),
    st.text(alphabet="/.ab%2e", max_size=15).map("/".__add__) | st.just(""),
    st.sampled_from(["", "?", "?q", "#f"]),
)


class AnyUrl(SynchronousTestCase):
    """Properties of the comparison."""

    @given(URLS | st.text())
    def test_canonical_form_is_stable(self, url: str) -> None:
        """The compared form of a compared form is itself, and names the same resource."""
        form = canonical(url)
        if form is not None:
            self.assertTrue(same_resource(url, url))
            if not urlsplit(form).path.endswith(
                "/"
            ):  # of two slashes at the end only one is a trailing slash
                self.assertEqual(canonical(form), form)

    @given(st.text(alphabet="/.ab", max_size=20))
    def test_no_dot_segment_remains(self, path: str) -> None:
        """However the dots are arranged, the compared path has no dot segment and does not leave the host."""
        form = canonical(f"https://h/{path}")
        assert form is not None
        self.assertTrue(form == "https://h" or form.startswith("https://h/"))
        self.assertFalse({".", ".."} & set(form.removeprefix("https://h").split("/")))

    @given(URLS, URLS)
    def test_symmetric(self, one: str, other: str) -> None:
        """Sameness does not depend on who asks."""
        self.assertEqual(same_resource(one, other), same_resource(other, one))
