"""Consent, the way on, and errors, as a person meets them: in Chromium, with eyes, hands and a keyboard."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from urllib.request import Request as WebRequest
from urllib.request import urlopen

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Request

from tests.browser.chromium import Chromium, chromium
from tests.e2e import flow
from tests.facade.world import VERIFIER, challenge_of
from tests.support.builds import INSTALL_TIMEOUT
from tests.support.certificates import private_ca
from tests.support.double import RunningDouble
from tests.support.keycloak import CREDENTIALS as C
from tests.support.proxy import Proxy
from tests.support.reactor import global_reactor
from tests.support.site import ClosingSite

CURSOR = "cursor://anysphere.cursor-mcp/oauth/callback"


class Callback(Resource):
    """A client's own callback: it remembers how it was called."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, str]] = []

    def render_GET(self, request: Request) -> bytes:
        """Take the answer."""
        if request.path == b"/callback":  # browsers ask for an icon too
            self.calls.append(dict(parse_qsl(request.uri.decode().partition("?")[2])))
        request.setHeader(b"Content-Type", b"text/html")
        return b"<!doctype html><html lang=en><title>Done</title><h1>The client has it</h1>"


def in_thread(
    method: Callable[[Any, Proxy, Chromium], None],
) -> Callable[[Any], Deferred[None]]:
    """Start a proxy and run the test in a thread: WebDriver blocks, and the provider needs the reactor."""

    @wraps(method)
    async def test(self: Any) -> None:
        browser = await deferToThread(chromium)
        proxy = await self.proxy()
        await deferToThread(method, self, proxy, browser)

    return test  # type: ignore[return-value]


class BrowserCase(flow.FlowCase):
    """The started program, the embedded identity provider, and a callback by http and https."""

    timeout = flow.FlowCase.timeout + INSTALL_TIMEOUT

    def setUp(self) -> None:
        reactor = global_reactor()
        self.provider = RunningDouble(reactor)
        self.addCleanup(self.provider.stop)
        self.issuer = self.provider.issuer()
        self.callback = Callback()
        site = ClosingSite(self.callback, reactor)
        self.addCleanup(site.close)
        self.loopback = f"http://127.0.0.1:{site.listen()}/callback"
        self.https = f"https://localhost:{site.listen(private_ca(host='localhost')[1])}/callback"

    def authorize_url(self, proxy: Proxy, redirect_uri: str, name: str = "Example App", **more: str) -> str:
        """Register a client and return its authorization request."""
        body = f'{{"client_name": {quoted(name)}, "redirect_uris": ["{redirect_uri}"]}}'.encode()
        headers = {"Content-Type": "application/json"}
        with urlopen(WebRequest(f"{proxy.base_url}/oauth/register", body, headers), timeout=10) as answer:
            client_id = answer.read().decode().partition('"client_id":"')[2].partition('"')[0]
        parameters = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            "state": "the-state",
            "scope": "openid profile email",
            **more,
        }
        return f"{proxy.base_url}/oauth/authorize?{urlencode(parameters)}"

    def sign_in(self, browser: Chromium) -> None:
        """Fill in the provider's form."""
        browser.wait_for_url(self.issuer)
        browser.element("input[name=username]").send_keys(C.username)
        browser.element("input[name=password]").send_keys(C.password, Keys.ENTER)

    def assert_nothing_blocked(self, browser: Chromium) -> None:
        """No policy of ours stood in the way."""
        blocked = [line for line in browser.messages() if "Content Security Policy" in line]
        self.assertEqual(blocked, [])


def quoted(text: str) -> str:
    """Return ``text`` as JSON in ASCII."""
    return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) > 126 or c in '"\\' else c for c in text) + '"'


class Consent(BrowserCase):
    """The consent page with every kind of callback."""

    @in_thread
    def test_interop_32_approve_leads_to_every_callback(self, proxy: Proxy, browser: Chromium) -> None:
        """Chromium goes on from the form's answer, whatever scheme or host the client has."""
        for redirect_uri in (self.loopback, self.https):
            browser.reset()
            browser.open(self.authorize_url(proxy, redirect_uri))
            self.assertIn("Example App", browser.text)
            browser.press("Allow")
            self.sign_in(browser)
            browser.wait_for_url(redirect_uri)
            arrived = self.callback.calls.pop()
            self.assertEqual((arrived["state"], arrived["iss"]), ("the-state", proxy.base_url))
            self.assertIn("code", arrived)
            self.assert_nothing_blocked(browser)

    @in_thread
    def test_interop_32_approve_leads_to_an_app(self, proxy: Proxy, browser: Chromium) -> None:
        """An app's own scheme is opened by a page, which no policy keeps from it."""
        browser.open(self.authorize_url(proxy, CURSOR))
        browser.screenshot("consent-app")
        browser.press("Allow")
        self.sign_in(browser)
        browser.wait_for(lambda: "Back to your app" in browser.text, "no way back")
        link = browser.element("a.primary").get_attribute("href")
        self.assertTrue(link.startswith(f"{CURSOR}?code="), link)
        self.assertEqual(dict(parse_qsl(urlsplit(link).query))["iss"], proxy.base_url)
        browser.screenshot("leave-app")
        self.assertEqual(browser.violations(), [])
        browser.element("a.primary").click()
        self.assert_nothing_blocked(browser)

    @in_thread
    def test_interop_32_deny(self, proxy: Proxy, browser: Chromium) -> None:
        """Cancel tells the client, by the same ways."""
        for redirect_uri in (self.loopback, self.https):
            browser.reset()
            browser.open(self.authorize_url(proxy, redirect_uri))
            browser.press("Cancel")
            browser.wait_for_url(redirect_uri)
            self.assertEqual(self.callback.calls.pop()["error"], "access_denied")
            self.assert_nothing_blocked(browser)
        browser.open(self.authorize_url(proxy, CURSOR))
        browser.press("Cancel")
        browser.wait_for(lambda: "Back to your app" in browser.text, "no way back")
        link = browser.element("a.primary").get_attribute("href")
        self.assertTrue(link.startswith(f"{CURSOR}?error=access_denied"), link)
        self.assert_nothing_blocked(browser)

    @in_thread
    def test_keyboard_only(self, proxy: Proxy, browser: Chromium) -> None:
        """Tab and Enter are enough, and the focus can be seen."""
        browser.open(self.authorize_url(proxy, self.loopback))
        for expected in ("Allow", "Cancel"):
            browser.driver.switch_to.active_element.send_keys(Keys.TAB)
            focused = browser.driver.switch_to.active_element
            self.assertEqual(focused.text, expected)
            outline = focused.value_of_css_property("outline-style")
            self.assertNotEqual(outline, "none", "the focus must be visible")
        browser.screenshot("consent-focus")
        focused.send_keys(Keys.SHIFT, Keys.TAB)
        browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
        self.sign_in(browser)
        browser.wait_for_url(self.loopback)

    @in_thread
    def test_every_look(self, proxy: Proxy, browser: Chromium) -> None:
        """Narrow, dark, and twice as large: nothing is cut off, nothing violates a rule of axe-core."""
        pages = {
            "consent": self.authorize_url(proxy, self.loopback),
            "consent-nameless": self.authorize_url(proxy, self.https, ""),
            "consent-long": self.authorize_url(
                proxy,
                self.loopback,
                "A name without an end " * 9,
                scope="openid profile email offline_access",
            ),
            "error-request": f"{proxy.base_url}/oauth/authorize",
            "error-back": self.authorize_url(proxy, "https://client.example/cb", response_mode="fragment"),
            "error-client": f"{proxy.base_url}/oauth/authorize?client_id=unknown",
            "error-callback": f"{proxy.base_url}/oauth/callback?state=x&code=y",
        }
        for name, url in pages.items():
            for look, options in {
                "": {},
                "-dark": {"dark": True},
                "-narrow": {"width": 360},
                "-narrow-dark-large": {"width": 360, "dark": True, "scale": 2},
            }.items():
                browser.look(**options)
                browser.open(url)
                browser.screenshot(name + look)
                self.assertFalse(browser.is_scrolled_sideways(), name + look)
                self.assertEqual(browser.violations(), [], name + look)

    @in_thread
    def test_names_that_pretend(self, proxy: Proxy, browser: Chromium) -> None:
        """Markup is text, order cannot be turned round, and mixed scripts are pointed out."""
        for number, (name, shown) in enumerate(
            {
                "<b onclick=alert(1)>Bold</b> & Co": "<b onclick=alert(1)>Bold</b> & Co",
                "Safe\u202egnihton\u202c App": "Safegnihton App",
                "Cl\u0430ude": "Cl\u0430ude",
                "Zero\u200b\u200dWidth\ufeff": "ZeroWidth",
            }.items()
        ):
            browser.open(self.authorize_url(proxy, self.loopback, name))
            self.assertEqual(browser.element("h1 bdi").text, shown)
            self.assertEqual("not what it looks like" in browser.text, "\u0430" in name, name)
            browser.screenshot(f"consent-name-{number}")
            self.assertEqual(browser.violations(), [])

    @in_thread
    def test_no_frame(self, proxy: Proxy, browser: Chromium) -> None:
        """Another site cannot lay the page under its own buttons."""
        url = self.authorize_url(proxy, self.loopback)
        browser.open(self.https)
        script = "const f = document.createElement('iframe'); f.src = arguments[0]; document.body.append(f)"
        browser.driver.execute_script(script, url)
        browser.wait_for(
            lambda: any("frame-ancestors" in line or "X-Frame" in line for line in browser.messages()),
            "the frame was not refused",
        )


class Stumbling(BrowserCase):
    """What people do."""

    @in_thread
    def test_double_click(self, proxy: Proxy, browser: Chromium) -> None:
        """Two clicks are one login."""
        browser.open(self.authorize_url(proxy, self.loopback))
        button = browser.element("button.primary")
        browser.driver.execute_script("arguments[0].click(); arguments[0].click()", button)
        self.sign_in(browser)
        browser.wait_for_url(self.loopback)

    @in_thread
    def test_back_and_again(self, proxy: Proxy, browser: Chromium) -> None:
        """Back from the login form, allow once more, and it works."""
        browser.open(self.authorize_url(proxy, self.loopback))
        browser.press("Allow")
        browser.wait_for_url(self.issuer)
        browser.open(self.authorize_url(proxy, self.loopback))
        browser.press("Allow")
        self.sign_in(browser)
        browser.wait_for_url(self.loopback)
        self.assertIn("code", self.callback.calls.pop())

    @in_thread
    def test_two_tabs(self, proxy: Proxy, browser: Chromium) -> None:
        """Two apps ask at the same time; each gets its own answer."""
        driver = browser.driver
        first = driver.current_window_handle
        browser.open(self.authorize_url(proxy, self.loopback, "One", state="one"))
        driver.switch_to.new_window("tab")
        second = driver.current_window_handle
        try:
            browser.open(self.authorize_url(proxy, self.loopback, "Two", state="two"))
            browser.press("Allow")
            self.sign_in(browser)
            browser.wait_for_url(self.loopback)
            self.assertEqual(self.callback.calls.pop()["state"], "two")
        finally:
            driver.switch_to.window(second)
            driver.close()
            driver.switch_to.window(first)
        browser.press("Allow")
        browser.wait_for_url(self.loopback)
        self.assertEqual(self.callback.calls.pop()["state"], "one")

    @in_thread
    def test_no_cookies(self, proxy: Proxy, browser: Chromium) -> None:
        """Without cookies there is no login, and the page says what to do about it."""
        browser.open(self.authorize_url(proxy, self.loopback))
        browser.command("Network.clearBrowserCookies")
        browser.press("Allow")
        browser.wait_for(lambda: "Allow cookies for this site" in browser.text, "no advice")
        self.assertIn("consent_other_browser", browser.text)
        browser.screenshot("error-cookies")
        self.assertEqual(browser.violations(), [])

    @in_thread
    def test_the_second_time(self, proxy: Proxy, browser: Chromium) -> None:
        """Who has allowed an app before is not asked again, and one who said no is."""
        url = self.authorize_url(proxy, self.loopback)
        browser.open(url)
        browser.press("Allow")
        self.sign_in(browser)
        browser.wait_for_url(self.loopback)
        browser.open(url)
        browser.wait_for_url(self.loopback)
        other = self.authorize_url(proxy, self.loopback, "Another")
        for _ in range(2):
            browser.open(other)
            self.assertIn("Another", browser.driver.find_element(By.TAG_NAME, "h1").text)


class Scripts(BrowserCase):
    """Clients that live in a page, such as the Inspector's web interface."""

    @in_thread
    def test_a_page_calls(self, proxy: Proxy, browser: Chromium) -> None:
        """Discovery, registration, a token request and the MCP server itself: all answers can be read."""
        browser.open(self.loopback)
        base = proxy.base_url
        register = {"method": "POST", "headers": {"Content-Type": "application/json"}}
        register["body"] = f'{{"redirect_uris": ["{self.loopback}"]}}'
        form = {"method": "POST", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}
        call = {"method": "POST", "body": "{}", "headers": {"Authorization": "Bearer x", "Mcp-Param-A": "b"}}
        for url, options, status in (
            (f"{base}/.well-known/oauth-protected-resource/mcp", {}, 200),
            (
                f"{base}/.well-known/oauth-authorization-server",
                {"headers": {"MCP-Protocol-Version": "x"}},
                200,
            ),
            (f"{base}/.well-known/nothing", {"headers": {"MCP-Protocol-Version": "x"}}, 404),
            (f"{base}/oauth/register", register, 201),
            (f"{base}/oauth/token", {**form, "body": "grant_type=x"}, 401),
            (f"{base}/mcp", call, 401),
        ):
            found = self.fetch(browser, url, options)
            self.assertEqual(found.get("status"), status, (url, found))
        self.assertIn("resource_metadata=", found["challenge"])
        refused = self.fetch(browser, f"{base}/mcp", {"headers": {"X-Unknown": "1"}})
        self.assertIn("error", refused)

    def fetch(self, browser: Chromium, url: str, options: dict[str, Any]) -> dict[str, Any]:
        """Have the page's script ask, and return what it can read."""
        script = (
            "const [url, options, done] = arguments;"
            "fetch(url, options).then(async r => done({status: r.status, body: await r.text(),"
            " challenge: r.headers.get('WWW-Authenticate')}), e => done({error: String(e)}));"
        )
        found: dict[str, Any] = browser.driver.execute_async_script(script, url, options)
        return found
