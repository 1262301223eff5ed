"""``store.url``: what can be written, and that no credential in it is ever shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.model import Secret, StoreKind, StoreUrl
from mcp_oauth2_proxy.config.reference import effective
from mcp_oauth2_proxy.config.store_url import parse_store_url
from tests.config.case import ConfigCase
from tests.config.examples import MINIMAL

PASSWORD = Secret("p@ss:w/rd")
GOOD = {
    "memory://": StoreUrl(),
    "sqlite:///var/lib/mcp/store.db": StoreUrl(StoreKind.SQLITE, path="/var/lib/mcp/store.db"),
    "sqlite:///a%20b": StoreUrl(StoreKind.SQLITE, path="/a b"),
    "redis://h": StoreUrl(StoreKind.REDIS, hosts=(("h", 6379),)),
    "redis://[::1]:1/3": StoreUrl(StoreKind.REDIS, hosts=(("::1", 1),), database=3),
    "rediss://user:p%40ss%3Aw%2Frd@h:2/": StoreUrl(
        StoreKind.REDIS, tls=True, hosts=(("h", 2),), username="user", password=PASSWORD
    ),
    "redis://:p%40ss%3Aw%2Frd@h": StoreUrl(StoreKind.REDIS, hosts=(("h", 6379),), password=PASSWORD),
    "redis+sentinel://a,b:1,c/mymaster": StoreUrl(
        StoreKind.SENTINEL, hosts=(("a", 26379), ("b", 1), ("c", 26379)), service="mymaster"
    ),
    "rediss+sentinel://u:x@a/m/2?sentinel_username=s&sentinel_password=y": StoreUrl(
        StoreKind.SENTINEL,
        tls=True,
        hosts=(("a", 26379),),
        username="u",
        password=Secret("x"),
        service="m",
        database=2,
        sentinel_username="s",
        sentinel_password=Secret("y"),
    ),
    "redis+cluster://a:7000,b:7001": StoreUrl(StoreKind.CLUSTER, hosts=(("a", 7000), ("b", 7001))),
    "rediss+cluster://:x@a/0": StoreUrl(
        StoreKind.CLUSTER, tls=True, hosts=(("a", 6379),), password=Secret("x")
    ),
}
WRONG = {
    "": "is not the URL of a store",
    "redis": "is not the URL of a store",
    "postgres://h": "is not the URL of a store",
    "memory://h": "something after memory://",
    "sqlite://": "no absolute path",
    "sqlite://relative.db": "no absolute path",
    "sqlite:///": "a directory",
    "sqlite:///a/": "a directory",
    "sqlite:///a?mode=rwc": "a query",
    "redis://": "no usable host",
    "redis://h:0": "no usable host",
    "redis://h:99999": "no usable host",
    "redis://hunter2@h": "a user and no password",
    "redis://hunter2:@h": "a user and no password",
    "redis://:hunter2/3@h": "no usable host",
    "redis://a,b": "several hosts",
    "redis://h/hunter2": "is no number",
    "redis://h?password=hunter2": "a parameter that is not known",
    "redis+sentinel://a": "no service",
    "redis+sentinel://a/": "no service",
    "redis+sentinel://a/m?sentinel_password=hunter2&sentinel_password=hunter2": "twice",
    "redis+cluster://a/1": "only one",
}


class StoreUrls(SynchronousTestCase):
    """What an operator writes, and what it means."""

    def test_good(self) -> None:
        """Every form that docs/store.md names."""
        for text, expected in GOOD.items():
            self.assertEqual(parse_store_url(text), expected, text)

    def test_wrong(self) -> None:
        """A mistake is named; what could be a password is not repeated."""
        for text, words in WRONG.items():
            error = str(self.assertRaises(ValueError, parse_store_url, text))
            self.assertIn(words, error, text)
            self.assertNotIn("hunter2", error)

    def test_never_shown(self) -> None:
        """Neither ``repr`` nor ``str`` shows a credential; host and database are there to look for."""
        url = parse_store_url(
            "rediss+sentinel://hunter1:hunter2@a/m/2?sentinel_username=hunter3&sentinel_password=hunter4"
        )
        self.assertEqual(str(url), "rediss+sentinel://***@a:26379/m/2")
        self.assertNotIn("hunter", repr(url))

    def test_what_is_shown_can_be_read(self) -> None:
        """A URL without credentials is shown as one that means the same."""
        for text, expected in GOOD.items():
            if expected.password is None and " " not in expected.path:
                self.assertEqual(parse_store_url(str(expected)), expected, text)

    @given(st.text(alphabet="redis+clunt:/@,?=&%[]0a.", max_size=40))
    def test_anything(self, text: str) -> None:
        """Whatever is written is read or refused in words."""
        for beginning in ("", "redis://", "redis+sentinel://", "sqlite://"):
            try:
                self.assertIsInstance(parse_store_url(beginning + text), StoreUrl)
            except ValueError as error:
                self.assertRegex(str(error), "^(is|has|names) ")


class Settings(ConfigCase):
    """``store.url`` among the other settings."""

    def test_from_a_file(self) -> None:
        """A URL with a password can be a mounted secret, and is not shown by ``check-config``."""
        path = self.write("url", "redis://:hunter2@h/1\n")
        loaded = self.load(MINIMAL + f"store: {{urlFile: {path}}}\n")
        password = loaded.config.store.url.password
        self.assertEqual(password and password.reveal(), "hunter2")
        shown = "\n".join(effective(loaded))
        self.assertIn("store.url = redis://***@h:6379/1 ", shown)
        self.assertNotIn("hunter2", shown + repr(loaded))

    def test_mistakes_show_no_password(self) -> None:
        """The line about a mistake in the URL has nothing of its credentials."""
        (mistake,) = self.mistakes(MINIMAL + "store: {url: 'redis://:hunter2/@h'}\n")
        self.assertIn("store.url", mistake)
        self.assertNotIn("hunter2", mistake)

    def test_no_time_to_answer(self) -> None:
        """A store that may take no time at all could never answer."""
        (mistake,) = self.mistakes(MINIMAL + "store: {timeout: 0s}\n")
        self.assertIn("store.timeout must be longer than 0s", mistake)
