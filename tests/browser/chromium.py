"""One headless Chromium for all tests of this folder, and what they ask of it.

Where this machine has none the tests are skipped with the reason; with ``REQUIRE_BROWSER=1`` they fail.
"""

from __future__ import annotations

import atexit
import os
import shutil
from typing import Any
from unittest import SkipTest

from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.support.node import node_project
from tests.support.program import REPOSITORY

SCREENSHOTS = REPOSITORY / "output" / "screenshots"
#: Seconds that any single wait may take before the test fails.
PATIENCE = 20
#: The rules that a page has to keep: WCAG 2.2 AA, and what axe calls best practice.
_AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_driver: webdriver.Chrome | None = None


def _program(*names: str) -> str:
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return found
    reason = f"no {names[0]} here"
    if os.environ.get("REQUIRE_BROWSER") == "1":
        raise AssertionError(f"REQUIRE_BROWSER=1, but {reason}")
    raise SkipTest(reason)


def chromium() -> Chromium:
    """Return the browser, with no cookie and an empty log; raises SkipTest where there can be none."""
    global _driver  # noqa: PLW0603 (one for the whole process is the point)
    if _driver is None:
        options = webdriver.ChromeOptions()
        options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
        for flag in (
            *("--headless=new", "--disable-gpu", "--no-first-run", "--disable-extensions"),
            *("--ignore-certificate-errors", "--disable-background-networking", "--lang=en"),
        ):
            options.add_argument(flag)
        if os.geteuid() == 0:  # Chromium's sandbox cannot be set up by root
            options.add_argument("--no-sandbox")
            options.add_argument("--disable-dev-shm-usage")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        _driver = webdriver.Chrome(options, Service(_program("chromedriver")))
        atexit.register(_driver.quit)
    browser = Chromium(_driver)
    browser.reset()
    return browser


class Chromium:
    """A person's view of the browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def reset(self) -> None:
        """Forget what tests before have left."""
        self.driver.get("about:blank")
        self.command("Network.clearBrowserCookies")
        self.look()
        self.messages()

    def command(self, name: str, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def look(self, *, width: int = 800, dark: bool = False, scale: float = 1) -> None:
        """Look through a window of this width, in this colour scheme, with text this much larger."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=int(width / scale),
            height=900,
            deviceScaleFactor=scale,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go to ``url`` as if it had been typed."""
        self.driver.get(url)

    @property
    def url(self) -> str:
        """The address line."""
        return self.driver.current_url

    @property
    def text(self) -> str:
        """What can be read on the page."""
        # Not by an element, which may be of the page that is just being left.
        return str(self.driver.execute_script("return document.body ? document.body.innerText : ''"))

    def element(self, selector: str) -> Any:
        """Return the element that a CSS selector finds."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def press(self, name: str) -> None:
        """Press the button of that name."""
        self.driver.find_element(By.XPATH, f"//button[normalize-space()='{name}']").click()

    def wait_for(self, condition: Any, what: str) -> None:
        """Wait until ``condition()`` is true."""
        try:
            WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: condition())
        except TimeoutException:
            raise AssertionError(f"{what}; at {self.url}:\n{self.text}") from None

    def wait_for_url(self, beginning: str) -> None:
        """Wait until the address begins so."""
        self.wait_for(lambda: self.url.startswith(beginning), f"no way to {beginning}")

    def messages(self) -> list[str]:
        """Return what the console has said since it was asked last."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def screenshot(self, name: str) -> None:
        """Keep what can be seen now, for a person to look at."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(SCREENSHOTS / f"{name}.png"))

    def is_scrolled_sideways(self) -> bool:
        """Say whether the page is wider than the window."""
        script = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
        return bool(self.driver.execute_script(script))

    def violations(self) -> list[str]:
        """Return what axe-core has to say against the page."""
        source = (node_project("axe") / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")
        self.driver.execute_script(source)
        script = (
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {runOnly: arguments[0]}).then(r => done(r), e => done({error: String(e)}));"
        )
        result = self.driver.execute_async_script(script, _AXE_TAGS)
        assert "error" not in result, result
        assert len(result["passes"]) > 5, "axe-core has looked at nothing"
        return [
            f"{found['id']}: {found['help']} {[node['html'][:120] for node in found['nodes']]}"
            for found in result["violations"]
        ]
