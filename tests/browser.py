"""A Chromium for tests, without a window, and what they look for in it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.serving import Server

CHROMIUM = shutil.which("chromium")
CHROMEDRIVER = shutil.which("chromedriver")
WAIT_S = 60
POLL_S = 0.02
# A name of this machine that a browser does not trust as it does localhost.
UNTRUSTED_HOST = "service.test"


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """Run a browser, which writes down its console and its requests."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (
        "--headless",
        "--no-sandbox",  # for root, in a container
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--hide-scrollbars",
        "--window-size=1200,1600",
        f"--host-resolver-rules=MAP {UNTRUSTED_HOST} 127.0.0.1",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options, ChromeService(CHROMEDRIVER))
    try:
        yield browser
    finally:
        browser.quit()


def find(browser: Chrome, selector: str) -> WebElement:
    """Return the element, as soon as there is one."""
    return find_all(browser, selector)[0]


def find_all(browser: Chrome, selector: str) -> list[WebElement]:
    waiting = WebDriverWait(browser, WAIT_S, POLL_S)
    return waiting.until(lambda page: page.find_elements(By.CSS_SELECTOR, selector))


def console(browser: Chrome) -> list[Any]:
    """Return what the browser complained of, violations of the policy included."""
    entries: list[Any] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return entries


def other_hosts(server: Server, browser: Chrome) -> list[str]:
    """Return the addresses that were asked for and are not the service's."""
    entries = browser.get_log("performance")  # type: ignore[no-untyped-call]
    events = [json.loads(entry["message"])["message"] for entry in entries]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert asked
    # The browser's first tab is a page of its own, which may still be loading.
    own = (f"http://127.0.0.1:{server.port}/", "data:", "chrome")
    return [url for url in asked if not url.startswith(own)]
