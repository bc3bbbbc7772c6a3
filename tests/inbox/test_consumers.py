"""GET /inbox/consumers: how far each named consumer is behind."""

from tests.builders import some_messages
from tests.conftest import Api
from webhook_api.store.consumers import create_consumer
from webhook_api.store.messages import remove_messages


def test_the_page_shows_how_far_each_is_behind(api: Api) -> None:
    assert "There is none." in api.client.get("/inbox/consumers").text
    api.store(*some_messages(1500))
    create_consumer(api.writer, "billing", "start")
    create_consumer(api.writer, "quick", "now")
    remove_messages(api.writer, [1, 2])

    page = api.client.get("/inbox/consumers").text

    assert "<h2>billing</h2>" in page
    assert "<dd>1,498 messages</dd>" in page
    assert "<dd>2 messages, removed" in page
    assert page.count("Oldest unread") == 1
    assert 'href="/inbox/consumers"' in api.client.get("/inbox").text
