"""The pages of the inbox show all, escape every byte, and say what failed."""

import html
import json
import re
from dataclasses import replace

import pytest

from tests.builders import a_message
from tests.conftest import Api
from webhook_api.errors import Unavailable
from webhook_api.services import register_services, services_of

NASTY = "<script>alert(1)</script> \"'><img src=x onerror=alert(1)> \u202ertl \x00 {{ 7*7 }}"


def test_every_byte_is_escaped(api: Api) -> None:
    api.store(a_message(text=NASTY, message_id=NASTY), a_message(message_id="e", text="😀" * 4096))

    for url in ("/inbox", "/inbox?q=%3Cscript", "/inbox/messages/1"):
        page = api.client.get(url)

        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert "unsafe-inline" not in page.headers["Content-Security-Policy"]
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert not re.search(r"<[^>]+ (style|on\w+)=", page.text)
    assert "😀" * 4096 in api.client.get("/inbox").text


def test_a_message_shows_all_that_is_stored(api: Api) -> None:
    api.store(a_message(text="Grüße"))

    page = api.client.get("/inbox/messages/1").text

    shown = re.search(r'<pre id="json"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert shown
    assert json.loads(html.unescape(shown[1])) == a_message(text="Grüße")
    assert "Arrived" in page
    assert api.client.get("/inbox/messages/2").status_code == 404
    assert api.client.get(f"/inbox/messages/{2**70}").status_code == 404
    assert api.client.get("/inbox/messages/١").status_code == 404  # a digit, but not of ASCII


@pytest.mark.parametrize("path", ["/messages", "/inbox", "/inbox/messages/1"])
def test_a_host_that_no_url_can_have_is_400_in_json(api: Api, path: str) -> None:
    reply = api.client.get(path, headers={"Host": "x" * 64})

    assert (reply.status_code, reply.mimetype) == (400, "application/json")


def test_failures_are_pages(api: Api) -> None:
    class Stopped:
        def read(self, *_asked: object) -> None:
            raise Unavailable("other reads took longer than 1 s")

    def fail(*_asked: object) -> None:
        raise OSError("a secret of ours")

    wrong = api.client.get("/inbox?since=yesterday&q=x")
    unknown = [
        api.client.get(url) for url in ("/inbox//", "/inbox/messages/9", "/inbox/messages/x")
    ]
    no_post = [api.client.post("/inbox"), api.client.post("/inbox/messages/1")]
    services = services_of(api.app)
    stopped = Stopped()
    register_services(api.app, replace(services, reads=stopped))  # type: ignore[arg-type]
    past_turn = api.client.get("/inbox?q=x")
    stopped.read = fail  # type: ignore[method-assign]
    broken = api.client.get("/inbox?q=x")
    register_services(api.app, services)
    api.path.write_bytes(b"no database" * 1000)
    no_database = api.client.get("/inbox")
    told = api.client.get("/inbox/new?above=1")

    pages = [wrong, *unknown, *no_post, past_turn, broken, no_database]
    assert [one.status_code for one in pages] == [422, 404, 404, 404, 405, 405, 503, 500, 503]
    for page in pages:
        assert page.mimetype == "text/html"
        assert 'href="/inbox"' in page.text
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        assert page.headers["Content-Length"] == str(len(page.data))
    assert "since: " in wrong.text
    assert "other reads took longer than 1 s" in past_turn.text
    assert "secret" not in broken.text
    assert past_turn.headers["Retry-After"] == no_database.headers["Retry-After"] == "2"
    assert all(one.headers["Allow"] for one in no_post)
    assert api.client.post("/inbox/new").mimetype == "application/json"
    assert (told.status_code, told.mimetype) == (503, "application/json")
