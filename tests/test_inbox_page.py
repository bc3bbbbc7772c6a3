"""GET /inbox in a browser: on a phone and a desk, in dark and light, with and without JavaScript.

axe-core is fetched by npm in a pinned version, for these tests alone.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser import CHROMEDRIVER, CHROMIUM, chromium
from tests.serving import Server, serving
from tests.test_docs_page import console, find, find_all, other_hosts

AXE = "axe-core@4.10.2"
AXE_SHA512 = (
    "RE3mdQ7P3FRSe7eqCWoeQ/Z9QXrtniSjp1wUjt5nRC3WIpz5rSCve6o3fsZ2aCpJtrZjSZgjwXAoTO5k4tEI0w=="
)
TEXTS = [
    "مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया", "你好，世界", "こんにちは", "안녕하세요",
    "👩‍👩‍👧‍👦 👍🏽",
    "สวัสดีชาวโลก", "Привет, мир", "Γειά σου Κόσμε", "হ্যালো", "À L'ÉCOLE",
    "<script>alert('x')</script>\"", "\u202egnirts", "a\x00b", "w" * 4096,
]  # fmt: skip

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="no Chromium and ChromeDriver are installed"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), WEB_CONCURRENCY=1) as server:
        for number, text in enumerate(TEXTS):
            server.deliver(message_id=f"m{number}", text=text, ts=f"2025-01-15T10:00:{number:02}Z")
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not (npm := shutil.which("npm")):
        pytest.skip("no npm is installed, to fetch axe-core")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "pack", AXE, "--fetch-retries=0", "--fetch-timeout=10000"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=30)
    except subprocess.SubprocessError:
        pytest.skip("npm cannot fetch axe-core")
    [packed] = folder.glob("*.tgz")
    assert base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode() == AXE_SHA512
    with tarfile.open(packed) as files:
        script = files.extractfile("package/axe.min.js")
        assert script
        return script.read().decode()


def show(server: Server, browser: Chrome, path: str, *, width: int, theme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(f"http://127.0.0.1:{server.port}{path}")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_axe_finds_nothing_and_the_console_is_quiet(
    server: Server, browser: Chrome, axe: str, width: int, theme: str
) -> None:
    console(browser)
    for path in ("/inbox", "/inbox?q=%C3%A9cole&from=%2B919876543210", "/inbox/messages/1"):
        show(server, browser, path, width=width, theme=theme)
        assert browser.execute_script("return document.documentElement.scrollWidth") == width
        browser.execute_script(axe)
        found = browser.execute_async_script("axe.run().then(arguments[0])")

        assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
    assert console(browser) == []
    assert other_hosts(server, browser) == []


def test_every_script_is_shown_as_it_is(server: Server, browser: Chrome) -> None:
    show(server, browser, "/inbox", width=1280, theme="light")

    shown = browser.execute_script(
        "return [...document.querySelectorAll('.text')].map((text) => text.textContent)"
    )
    # HTML has no U+0000, and a browser leaves it out; "As JSON" shows it.
    assert shown == [text.replace("\x00", "") for text in reversed(TEXTS)]
    directions = browser.execute_script(
        "return [...document.querySelectorAll('.text')].map((e) => getComputedStyle(e).direction)"
    )
    assert directions[::-1][:3] == ["rtl", "rtl", "ltr"]


def test_hits_are_marked(server: Server, browser: Chrome) -> None:
    show(server, browser, "/inbox?q=%C3%A9cole", width=390, theme="dark")

    assert [mark.text for mark in find_all(browser, "mark")] == ["ÉCOLE"]


def test_it_works_without_javascript(server: Server, browser: Chrome) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(server, browser, "/inbox", width=390, theme="light")
        find(browser, "input[name=q]").send_keys("привет")
        find(browser, ".search button").click()
        found = find(browser, "mark").text
        find(browser, ".when").click()
        copy = find(browser, "#copy")
        hidden = not copy.is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

    assert (found, hidden) == ("Привет", True)


def test_new_messages_are_announced_and_shown_by_a_click(server: Server, browser: Chrome) -> None:
    # As if time went twenty times as fast.
    faster = "const slow = setTimeout; setTimeout = (work, ms) => slow(work, ms / 20);"
    added: Any = browser.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": faster}
    )
    show(server, browser, "/inbox", width=1280, theme="light")
    server.deliver(message_id="new", text="just now", ts="2025-01-16T10:00:00Z")

    link = find(browser, "#new a")
    said = link.text
    link.click()
    WebDriverWait(browser, 5).until(lambda page: page.find_element(By.CSS_SELECTOR, ".text"))
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)

    assert said == "1 new message"
    WebDriverWait(browser, 5).until(
        lambda page: page.find_element(By.CSS_SELECTOR, ".text").text == "just now"
    )
    assert json.loads(server.get("/inbox/new?above=0").body)["new"] == len(TEXTS) + 1
