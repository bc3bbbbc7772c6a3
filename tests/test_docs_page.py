"""GET /docs in a browser: it opens, loads nothing from other hosts, and signs deliveries."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser import (
    CHROMEDRIVER,
    CHROMIUM,
    UNTRUSTED_HOST,
    WAIT_S,
    console,
    find,
    find_all,
    other_hosts,
)
from tests.builders import SECRET, a_message
from tests.serving import QUICK, Server, serving

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="no Chromium and ChromeDriver are installed"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), QUICK, WEB_CONCURRENCY=1) as server:
        yield server


def test_a_delivery_tried_out_is_signed_and_stored(
    server: Server, browser: Chrome, tmp_path: Path
) -> None:
    open_page(server, browser)
    find(browser, "#secret").send_keys(SECRET)
    # Not ASCII, since the signature is one of bytes.
    message = a_message(message_id="signed", text="Grüße, привет")

    status = try_out(browser, json.dumps(message, ensure_ascii=False))

    assert status == "200"
    assert message in server.get("/messages").json["data"]
    assert browser.save_screenshot(str(tmp_path / "docs.png"))
    assert console(browser) == []
    assert other_hosts(server, browser) == []


def test_every_operation_is_there_and_messages_unchanged_lists_all_messages(
    server: Server, browser: Chrome
) -> None:
    for number in range(3):
        server.deliver(message_id=f"listed {number}")
    open_page(server, browser)

    shown = [element.text for element in find_all(browser, ".opblock-summary-path")]
    listed = try_out_read(browser, "showMessages")

    described = server.get("/openapi.json").json["paths"]
    assert {path.replace("\u200b", "") for path in shown} == set(described)
    assert listed["total"] == server.get("/stats").json["total_messages"] >= 3
    assert len(listed["data"]) == listed["total"]


def test_a_token_that_is_typed_once_opens_the_reads(browser: Chrome, tmp_path: Path) -> None:
    with serving(tmp_path, QUICK, WEB_CONCURRENCY=1, READ_TOKEN="a-token-for-readers") as server:
        open_page(server, browser)
        find(browser, "#token").send_keys("a-token-for-readers")
        stats = try_out_read(browser, "showStats")

    assert stats["total_messages"] == 0
    assert console(browser) == []


def test_a_service_without_a_token_asks_for_none(server: Server) -> None:
    assert b"token" not in server.get("/docs").body


def test_a_phone_need_not_scroll_sideways(server: Server, browser: Chrome) -> None:
    open_page(server, browser)
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    # One after the other: each click makes the page draw all that is open again.
    for operation in find_all(browser, ".opblock-summary-control"):
        browser.execute_script("arguments[0].click()", operation)
        browser.execute_script("arguments[0].click()", find(browser, ".try-out__btn"))

        width = browser.execute_script("return document.documentElement.scrollWidth")

        assert width == 390, operation.text
        browser.execute_script("arguments[0].click()", operation)
        WebDriverWait(browser, WAIT_S).until(
            lambda page: not page.find_elements(By.CSS_SELECTOR, ".try-out__btn")
        )


def test_without_a_secret_a_delivery_is_refused_and_one_is_kept_nowhere(
    server: Server, browser: Chrome
) -> None:
    open_page(server, browser)
    refused = try_out(browser, json.dumps(a_message(message_id="refused")))
    open_page(server, browser)
    find(browser, "#secret").send_keys(SECRET)
    accepted = try_out(browser, json.dumps(a_message(message_id="kept")))

    browser.refresh()

    assert (refused, accepted) == ("401", "200")
    assert "refused" not in server.ids()
    assert find(browser, "#secret").get_property("value") == ""
    assert browser.execute_script(
        "return [localStorage.length, sessionStorage.length, document.cookie]"
    ) == [0, 0, ""]


def test_the_page_says_so_where_the_browser_cannot_sign(server: Server, browser: Chrome) -> None:
    open_page(server, browser, UNTRUSTED_HOST)

    assert not find(browser, "#secret").is_enabled()
    assert "only on https:// or on localhost" in find(browser, "#state").text


def open_page(server: Server, browser: Chrome, host: str = "127.0.0.1") -> None:
    browser.get_log("browser")  # type: ignore[no-untyped-call]
    browser.get_log("performance")  # type: ignore[no-untyped-call]
    browser.get(f"http://{host}:{server.port}/docs")
    find(browser, ".opblock")


def try_out(browser: Chrome, body: str) -> str:
    """Send `body` to POST /webhook as a reader of the page would, and return the status shown."""
    operation = "#operations-messages-receiveMessage "
    find(browser, operation + ".opblock-summary-control").click()
    find(browser, operation + ".try-out__btn").click()
    # As if pasted: typed, each key would make the page draw itself again.
    browser.execute_script(
        """
        const [field, text] = arguments;
        field.select();
        document.execCommand("insertText", false, text);
        """,
        find(browser, operation + "textarea.body-param__text"),
        body,
    )
    find(browser, operation + "button.execute").click()
    shown = find(browser, operation + ".live-responses-table tbody td.response-col_status")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", shown)
    return shown.text


def try_out_read(browser: Chrome, name: str) -> Any:
    """Ask what a page suggests for a read, and return the JSON of the answer."""
    operation = f"#operations-messages-{name} "
    find(browser, operation + ".opblock-summary-control").click()
    find(browser, operation + ".try-out__btn").click()
    # The line with the secret may cover it.
    browser.execute_script("arguments[0].click()", find(browser, operation + "button.execute"))
    shown = find(browser, operation + ".live-responses-table .response-col_description pre")
    return json.loads(shown.text)
