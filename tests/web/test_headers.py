"""The security headers, on every kind of reply."""

import pytest

from tests.builders import a_message, encode, signed
from tests.conftest import Api

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


def test_assets_share_one_label_in_the_metrics(api: Api) -> None:
    for name in ("docs.js", "docs.css", "nothing.js"):
        api.client.get(f"/docs/{name}").close()

    metrics = api.client.get("/metrics?name[]=http_requests_total").text

    labels = 'http_requests_total{method="GET",path="/docs/<path:filename>"'
    assert f'{labels},status="200"}} 2.0' in metrics
    assert f'{labels},status="404"}} 1.0' in metrics
