"""The inbox shows what a message is where it has no text, and all of it on its own page."""

import html
import json
import re
from pathlib import Path

import pytest

from tests.builders import a_message
from tests.conftest import Api
from tests.providers.samples import a_config, a_whatsapp, from_meta
from webhook_api.config import Config

FILE = {"id": "9", "mime_type": "application/pdf", "filename": "<b>.pdf"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return a_config(tmp_path)


def test_the_list_shows_kind_and_file_where_there_is_no_text(api: Api) -> None:
    nameless = {"id": "9", "mime_type": "image/jpeg"}
    api.deliver("meta", from_meta(a_whatsapp(1, type="image", text=None, image=nameless)))
    api.deliver("meta", from_meta(a_whatsapp(2, type="revoke", text=None)))
    api.deliver(
        "meta", from_meta(a_whatsapp(3, type=7, text=None, from_user_id="US.1", sender=None))
    )

    page = api.client.get("/inbox").text

    none = re.findall(r'<p class="text none">(.*?)</p>', page)
    assert none == ["No text", "revoke", "image, image/jpeg"]
    assert 'href="?from=US.1"' in page
    assert api.client.get("/inbox?from=US.1").text.count("<article>") == 1


def test_the_messages_of_one_provider_or_with_one_id_are_shown(api: Api) -> None:
    api.post(a_message(message_id="own"))
    api.deliver("meta", from_meta(a_whatsapp(1), a_whatsapp(2)))
    total = re.compile(r'class="found"><strong>([0-9]+)</strong>')

    def found(query: str) -> list[str]:
        shown = total.findall(api.client.get(f"/inbox?{query}").text)
        new = api.client.get(f"/inbox/new?above=0&{query}").get_json()["new"]
        assert shown in ([], [str(new)])
        return shown

    assert found("provider=meta") == ["2"]
    assert found("provider=webhook") == ["1"]
    assert found("provider=") == []
    assert found("message_id=own") == ["1"]
    assert found("message_id=own&provider=meta") == ["0"]
    assert 'name="provider" value="meta"' in api.client.get("/inbox?provider=meta").text


def test_the_page_of_a_message_shows_its_payload(api: Api) -> None:
    message = a_whatsapp(1, type="document", text=None, document=FILE)
    api.deliver("meta", from_meta(message))

    page = api.client.get("/inbox/messages/1").text

    shown = re.findall(r"<pre [^>]*>(.*?)</pre>", page, re.DOTALL)
    assert json.loads(html.unescape(shown[1])) == message
    assert "document, application/pdf, &lt;b&gt;.pdf" in page
    assert "<dd>meta</dd>" in page
