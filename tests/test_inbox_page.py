"""GET /inbox in a browser: on a phone and a desk, in dark and light, with and without JavaScript.

axe-core is fetched by npm in a pinned version, for these tests alone.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser import CHROMEDRIVER, CHROMIUM, WAIT_S, console, find, find_all, other_hosts
from tests.serving import QUICK, Server, serving
from webhook_api.inbox.session import COOKIE, PAUSE_S

AXE = "axe-core@4.10.2"
AXE_SHA512 = (
    "RE3mdQ7P3FRSe7eqCWoeQ/Z9QXrtniSjp1wUjt5nRC3WIpz5rSCve6o3fsZ2aCpJtrZjSZgjwXAoTO5k4tEI0w=="
)
TEXTS = [
    "مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया", "你好，世界", "こんにちは", "안녕하세요",
    "👩‍👩‍👧‍👦 👍🏽",
    "สวัสดีชาวโลก", "Привет, мир", "Γειά σου Κόσμε", "হ্যালো", "À L'ÉCOLE",
    "<script>alert('x')</script>\"", "\u202egnirts", "a\x00b", "😀" * 4096,
]  # fmt: skip
TOKEN = "a-token-for-readers"

# The time of a page, in the hands of a test: what it waits for, and the answers that it gets.
CLOCK = """
    const timers = new Map();
    let last = 0;
    window.setTimeout = (work, ms) => (timers.set(++last, { work, ms }), last);
    window.clearTimeout = (id) => timers.delete(id);
    window.waits = () => [...timers.values()].map((timer) => timer.ms);
    window.elapse = async () => {
      const [id, timer] = [...timers][0];
      timers.delete(id);
      await timer.work();
      return window.waits();
    };
    const real = window.fetch;
    window.refuse = (retry) => {
      const headers = { "Retry-After": retry };
      window.fetch = async () => new Response("", { status: 503, headers });
    };
    window.cut = () => (window.fetch = async () => { throw new TypeError("no network"); });
    window.mend = () => (window.fetch = real);
    window.turn = (away) => {
      Object.defineProperty(document, "hidden", { value: away, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
      return window.waits();
    };
"""

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="no Chromium and ChromeDriver are installed"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), QUICK, WEB_CONCURRENCY=1) as server:
        for number, text in enumerate(TEXTS):
            server.deliver(message_id=f"m{number}", text=text, ts=f"2025-01-15T10:00:{number:02}Z")
        yield server


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with a read token, and one message."""
    folder = tmp_path_factory.mktemp("locked")
    with serving(folder, QUICK, WEB_CONCURRENCY=1, READ_TOKEN=TOKEN) as server:
        server.deliver(text="for readers alone")
        yield server


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not (npm := shutil.which("npm")):
        pytest.skip("no npm is installed, to fetch axe-core")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "pack", AXE, "--fetch-retries=0", "--fetch-timeout=10000"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    except subprocess.SubprocessError:
        pytest.skip("npm cannot fetch axe-core")
    [packed] = folder.glob("*.tgz")
    assert base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode() == AXE_SHA512
    with tarfile.open(packed) as files:
        script = files.extractfile("package/axe.min.js")
        assert script
        return script.read().decode()


def show(
    server: Server, browser: Chrome, path: str, *, width: int = 1280, theme: str = "light"
) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(f"http://127.0.0.1:{server.port}{path}")


@contextmanager
def on_each_page(browser: Chrome, script: str) -> Iterator[None]:
    """Run `script` before those of each page."""
    added: Any = browser.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": script}
    )
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def faults(browser: Chrome, axe: str) -> list[tuple[str, str]]:
    """Return what axe finds on the page."""
    browser.execute_script(axe)
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    return [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]]


@pytest.mark.parametrize(
    ("width", "theme", "others"),
    [
        (320, "light", ["/inbox?q=%C3%A9cole&from=%2B919876543210&until=2026-01-01"]),
        (390, "dark", ["/inbox/messages/16", "/inbox?q=nothing"]),
        (1280, "light", ["/inbox/messages/1"]),
        (1280, "dark", ["/inbox?q=%C3%A9cole&to=%2B14155550100"]),
    ],
)
def test_axe_finds_nothing_and_the_console_is_quiet(
    server: Server, browser: Chrome, axe: str, width: int, theme: str, others: list[str]
) -> None:
    console(browser)
    for path in ["/inbox", *others]:
        show(server, browser, path, width=width, theme=theme)

        assert browser.execute_script("return document.documentElement.scrollWidth") == width
        assert faults(browser, axe) == []
        ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (int(ground.split("(")[1].split(",")[0]) < 128) is (theme == "dark")
    assert console(browser) == []
    assert other_hosts(server, browser) == []


def test_every_text_is_shown_as_it_is_and_its_time_in_the_readers_zone(
    server: Server, browser: Chrome
) -> None:
    browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
    show(server, browser, "/inbox")

    shown, directions = browser.execute_script(
        """
        const texts = [...document.querySelectorAll(".text")];
        return [texts.map((text) => text.textContent),
                texts.map((text) => getComputedStyle(text).direction)];
        """
    )
    time = find(browser, "time")
    browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})

    # HTML has no U+0000.
    assert shown == [text.replace("\x00", "\u2400") for text in reversed(TEXTS)]
    assert directions[::-1][:3] == ["rtl", "rtl", "ltr"]
    assert "3:30" in time.text
    assert time.get_attribute("title") == f"2025-01-15T10:00:{len(TEXTS) - 1}Z"


def test_it_works_without_javascript(server: Server, browser: Chrome) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(server, browser, "/inbox", width=390)
        find(browser, "input[name=q]").send_keys("привет")
        find(browser, ".search button").click()
        marked = [mark.text for mark in find_all(browser, "mark")]
        find(browser, ".to a").click()
        to = find(browser, ".found b").text
        find_all(browser, ".when")[-1].click()
        copy = find(browser, "#copy")
        hidden = not copy.is_displayed()
        sent = find(browser, "time").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

    assert (marked, to, hidden) == (["Привет"], "+14155550100", True)
    assert sent == "2025-01-15 10:00 UTC"


def test_the_keyboard_is_enough(server: Server, browser: Chrome) -> None:
    show(server, browser, "/inbox")

    def press(*keys: str) -> str:
        ActionChains(browser).send_keys(*keys).perform()
        # What has the focus, which has to be seen.
        seen: list[str] = browser.execute_script(
            """
            const element = document.activeElement;
            const { outlineStyle, outlineWidth } = getComputedStyle(element);
            return [element.name || element.textContent.trim(), outlineStyle, outlineWidth];
            """
        )
        assert seen[1:] == ["solid", "3px"]
        return seen[0]

    order = [press(Keys.TAB) for _ in range(6)]
    press(Keys.ENTER)
    fields = [press(Keys.TAB) for _ in range(7)]
    press(Keys.TAB)
    show(server, browser, "/inbox")
    for _ in range(5):
        press(Keys.TAB)
    ActionChains(browser).send_keys("привет", Keys.ENTER).perform()
    hit = find(browser, "mark").text
    for _ in range(30):
        press(Keys.TAB)
        if browser.switch_to.active_element.get_attribute("class") == "when":
            break
    ActionChains(browser).send_keys(Keys.ENTER).perform()

    assert order == [
        "Skip to the content",
        "Inbox",
        "Consumers",
        "API",
        "q",
        "Sender, receiver, provider, time and order",
    ]
    assert fields == ["from", "to", "provider", "message_id", "since", "until", "order"]
    assert hit == "Привет"
    assert find(browser, ".message .text").text == "Привет, мир"


def test_a_message_is_copied_as_json(server: Server, browser: Chrome) -> None:
    allowed = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", allowed)
    for row_id, text in ((13, TEXTS[12]), (15, TEXTS[14])):
        show(server, browser, f"/inbox/messages/{row_id}", width=390, theme="dark")

        find(browser, "#copy").click()
        WebDriverWait(browser, WAIT_S).until(lambda page: find(page, "#copied").text == "Copied.")
        copied = browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")

        assert json.loads(copied)["text"] == text


def test_it_looks_for_news_but_not_when_hidden_and_less_often_when_refused(
    server: Server, browser: Chrome
) -> None:
    with on_each_page(browser, CLOCK):
        show(server, browser, "/inbox")

        def run(script: str) -> list[int]:
            waits: list[int] = browser.execute_script(script)
            return waits

        assert run("return waits()") == [5000]
        assert run("return turn(true)") == []
        assert run("return turn(false)") == [5000]
        # Hidden while the answer is on its way.
        assert run("const looks = elapse(); turn(true); return looks") == []
        run("turn(false); refuse(30)")
        assert [run("return elapse()") for _ in range(4)] == [[30000], [60000], [120000], [120000]]
        run("mend()")
        assert run("return elapse()") == [5000]
        run("cut()")
        assert [run("return elapse()") for _ in range(2)] == [[10000], [20000]]
        assert find(browser, "#new").text == ""

        server.deliver(message_id="new", text="just now", ts="2025-01-16T10:00:00Z")
        run("mend()")
        assert run("return elapse()") == [5000]
        link = find(browser, "#new a")
        said = link.text
        link.click()
        WebDriverWait(browser, WAIT_S).until(
            lambda page: page.find_element(By.CSS_SELECTOR, ".text").text == "just now"
        )

    assert said == "1 new message"


def test_a_login_opens_what_was_asked_for_until_logout(
    locked: Server, browser: Chrome, axe: str
) -> None:
    show(locked, browser, "/inbox?from=%2B919876543210", width=390, theme="dark")
    assert "for readers" not in browser.page_source
    assert browser.switch_to.active_element.get_attribute("name") == "token"
    assert faults(browser, axe) == []

    began = time.monotonic()
    browser.switch_to.active_element.send_keys("guess", Keys.ENTER)
    assert find(browser, "[role=alert]").text == "That is not the token."
    assert time.monotonic() - began >= PAUSE_S
    assert faults(browser, axe) == []
    browser.switch_to.active_element.send_keys(TOKEN, Keys.ENTER)
    assert find(browser, ".found b").text == "+919876543210"
    assert browser.current_url.endswith("/inbox?from=%2B919876543210")
    assert "READ_TOKEN" not in browser.page_source

    [cookie] = browser.get_cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (COOKIE, True, "Strict")
    assert browser.execute_script("return document.cookie") == ""
    find(browser, ".top button").click()
    find(browser, "[name=token]")
    WebDriverWait(browser, WAIT_S).until(lambda page: page.get_cookies() == [])
    browser.back()
    find(browser, "[name=token]")
    assert "for readers" not in browser.page_source


def test_without_javascript_the_way_back_shows_nothing_after_a_logout(
    locked: Server, browser: Chrome
) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(locked, browser, "/inbox")
        find(browser, "[name=token]").send_keys(TOKEN, Keys.ENTER)
        assert find(browser, ".text").text == "for readers alone"
        find(browser, ".top button").click()
        find(browser, "[name=token]")

        browser.back()

        find(browser, "[name=token]")
        assert "for readers" not in browser.page_source
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
