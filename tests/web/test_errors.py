"""Every reply: failures are `{"detail": ...}` without internals, and all have their headers."""

import html
import re
from urllib.parse import urljoin

import pytest

from tests.builders import a_message, encode, signed
from tests.conftest import Api
from webhook_api.web.metrics import UNMATCHED

UNKNOWN_PATHS = [
    "/nope", "/nope/", "/webhook//", "/stats//", "/MESSAGES", "/health//", "/health/live//",
    "/health//live", "//health/live", "/static/x.js", "/../etc/passwd", "/%ff", "/%00", "/é",
    '/"x', "/messages;v=1", "/stats/%2F", "/a" * 4000,
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_404_in_json(api: Api, method: str) -> None:
    for path in UNKNOWN_PATHS:
        response = api.client.open(path, method=method)

        assert (response.status_code, response.content_type) == (404, "application/json"), path
        assert list(response.json or {}) == ["detail"]
        assert "Location" not in response.headers


def test_one_slash_more_is_the_same_route(api: Api) -> None:
    api.post(a_message())
    values = {"<int:row_id>": "1", "<path:filename>": "docs.css", "<id:message_id>": "m1"}
    rules = {rule.rule for rule in api.app.url_map.iter_rules()} - {"/"}
    body = encode(a_message(message_id="m2"))

    for path in rules:
        for name, value in values.items():
            path = path.replace(name, value)
        for method in ("GET", "POST"):
            plain, slash = (api.client.open(one, method=method) for one in (path, f"{path}/"))
            with plain, slash:
                assert slash.status_code == plain.status_code, path
    delivered = api.client.post("/webhook/", data=body, headers=signed(body))

    assert delivered.json == {"status": "ok"}
    assert api.logged()[-1]["path"] == "/webhook"
    assert not any(line["path"].endswith("/") for line in api.logged())
    paths = {path for series in api.scrape() for path in re.findall('path="([^"]+)"', series)}
    assert paths <= {*rules, "/", UNMATCHED}


def test_the_links_of_a_page_hold_with_a_slash_too(api: Api) -> None:
    api.post(a_message())

    for path in ("/inbox/", "/docs/"):
        links = re.findall(r'(?:href|src)="([^#"][^"]*)"', api.client.get(path).text)
        assert len(links) > 5
        for link in links:
            with api.client.get(urljoin(path, html.unescape(link))) as response:
                assert response.status_code == 200, link


READ = {"GET", "HEAD", "OPTIONS"}
ROUTES = {
    "/webhook": {"POST", "OPTIONS"}, "/messages": READ, "/stats": READ, "/metrics": READ,
    "/health": READ, "/health/live": READ, "/health/ready": READ,
}  # fmt: skip


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "X"]


@pytest.mark.parametrize(("path", "allowed"), ROUTES.items())
def test_a_method_that_a_route_lacks_is_405_with_allow_and_options_names_the_others(
    api: Api, path: str, allowed: set[str]
) -> None:
    for method in {"OPTIONS", *set(METHODS) - allowed}:
        response = api.client.open(path, method=method)

        assert set(response.headers["Allow"].split(", ")) == allowed
        if method == "OPTIONS":
            assert response.status_code == 200
        else:
            assert (response.status_code, response.content_type) == (405, "application/json")
            assert list(response.json or {}) == ["detail"]


def test_head_of_the_metrics_has_no_body(api: Api) -> None:
    response = api.client.head("/metrics")

    assert (response.status_code, response.data) == (200, b"")


def test_an_unforeseen_failure_is_500_and_its_trace_stays_inside(api: Api) -> None:
    @api.app.get("/fails")
    def fail() -> str:
        raise RuntimeError("a private reason")

    response = api.client.get("/fails")

    assert response.status_code == 500
    assert response.json == {"detail": "internal server error"}
    (line,) = api.logged()
    assert (line["status"], line["level"], line["path"]) == (500, "ERROR", "/fails")
    assert line["traceback"].startswith("Traceback")
    assert line["traceback"].endswith("RuntimeError: a private reason\n")
    assert line["request_id"] == response.headers["X-Request-ID"]


def test_a_failure_within_the_webhook_is_counted_as_error(api: Api) -> None:
    del api.app.config["SETTINGS"]

    response = api.post(a_message())

    assert response.status_code == 500
    (line,) = api.logged()
    assert (line["result"], line["dup"], "message_id" in line) == ("error", False, False)
    assert api.scrape()['webhook_requests_total{result="error"}'] == 1


@pytest.mark.parametrize(
    "path", ["/messages", "/messages?q=x", "/stats", "/health", "/health/ready"]
)
def test_a_database_that_is_gone_is_503_with_retry_after_and_is_not_created(
    api: Api, path: str
) -> None:
    api.path.unlink()

    response = api.client.get(path)

    assert response.status_code == 503
    assert response.json == {"detail": "database: No such file or directory"}
    assert int(response.headers["Retry-After"]) > 0
    (line,) = api.logged()
    assert (line["status"], line["level"]) == (503, "ERROR")
    assert line["error"] == "database: No such file or directory"
    assert "traceback" not in line
    assert not api.path.exists()
    assert api.client.get("/health/live").status_code == 200


def test_a_delivery_that_cannot_be_stored_is_503_and_stored_when_it_comes_again(api: Api) -> None:
    aside = api.path.with_suffix(".aside")
    api.path.rename(aside)
    refused = api.post(a_message())
    aside.rename(api.path)

    again = api.post(a_message())

    assert (refused.status_code, again.status_code) == (503, 200)
    assert int(refused.headers["Retry-After"]) > 0
    assert [(line["result"], line["dup"], line["message_id"]) for line in api.logged()] == [
        ("unavailable", False, "m1"),
        ("created", False, "m1"),
    ]
    assert api.scrape()['webhook_requests_total{result="unavailable"}'] == 1
    assert api.rows("SELECT message_id FROM messages") == [("m1",)]


BODY = encode(a_message())


REPLIES = [
    ("POST", "/webhook", 200), ("GET", "/webhook", 405), ("GET", "/messages", 200),
    ("GET", "/messages?limit=x", 422), ("GET", "/stats", 200), ("GET", "/health/live", 200),
    ("GET", "/metrics", 200), ("GET", "/openapi.json", 200), ("GET", "/docs", 200),
    ("GET", "/docs/docs.js", 200), ("GET", "/nothing", 404), ("HEAD", "/messages", 200),
    ("OPTIONS", "/webhook", 200),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status"), REPLIES)
def test_every_reply_has_security_headers(api: Api, method: str, path: str, status: int) -> None:
    with api.client.open(path, method=method, data=BODY, headers=signed(BODY)) as response:
        assert response.status_code == status
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert policy.endswith("frame-ancestors 'none'")
        assert "unsafe" not in policy


JSON = {"/stats": 200, "/messages": 200, "/messages?limit=0": 422, "/webhook": 405, "/nope": 404,
        "/health": 200, "/health/live": 200, "/health/ready": 200}  # fmt: skip


@pytest.mark.parametrize(("path", "status"), JSON.items())
def test_a_json_reply_has_its_length_and_type_and_no_message_is_cached(
    api: Api, path: str, status: int
) -> None:
    whole = api.client.get(path)
    head = api.client.head(path)

    assert (whole.status_code, head.status_code, head.data) == (status, status, b"")
    for response in (whole, head):
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Content-Length"] == str(len(whole.data))
        if path.startswith(("/stats", "/messages", "/webhook")):
            assert response.headers["Cache-Control"] == "no-store"


def test_an_upgrade_to_a_websocket_is_ignored(api: Api) -> None:
    """RFC 9110, 7.8: a server may ignore it. Flask itself answers 400."""
    asked = {"Connection": "keep-alive, Upgrade", "Upgrade": "websocket"}

    assert api.client.get("/health/live", headers=asked).json == {"status": "alive"}
