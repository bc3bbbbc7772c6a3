"""POST /webhook/twilio: repeats, and what is signed."""

import time

from flask.testing import FlaskClient

from tests.conftest import Logged
from tests.providers.conftest import Deliver
from tests.providers.samples import (
    from_twilio,
)


def test_a_repeat_of_twilio_is_no_conflict_though_it_comes_later(
    deliver: Deliver, logged: Logged
) -> None:
    for _ in range(2):
        assert deliver("twilio", from_twilio()).status_code == 200
        time.sleep(0.002)

    assert [line["result"] for line in logged()] == ["created", "duplicate"]
    assert "conflict" not in logged()[-1]
    assert logged()[-1]["message_id"] == "twilio:SM1f0e8ae6ade43cb3c0ce4525424e404f"


def test_the_urls_query_is_part_of_what_twilio_signs(client: FlaskClient) -> None:
    """The URL that an operator enters at Twilio may have one."""
    # node: createHmac("sha1", "auth-token").update(url + "?a=%20b" + sorted fields)
    body = b"MessageSid=SM1&From=%2B1415&To=%2B1800&Body="
    headers = {"X-Twilio-Signature": "kTZc9MLqY8u0y9nufRdSSK17+Qw="}

    assert client.post("/webhook/twilio?a=%20b", data=body, headers=headers).status_code == 200
    assert client.post("/webhook/twilio/?a=%20b", data=body, headers=headers).status_code == 401
    assert client.post("/webhook/twilio?a=+b", data=body, headers=headers).status_code == 401
    assert client.post("/webhook/twilio", data=body, headers=headers).status_code == 401


def test_a_slash_at_the_end_of_the_url_is_part_of_what_twilio_signs(client: FlaskClient) -> None:
    # printf %s URLFrom+1415MessageSidSM1To+1800 | openssl dgst -sha1 -hmac auth-token -binary
    body = b"MessageSid=SM1&From=%2B1415&To=%2B1800"
    slash = {"X-Twilio-Signature": "BtJPuU9PxZl43dhPU6xdJLGH8Bw="}
    plain = {"X-Twilio-Signature": "o/mPGADXg9uhXUzaNC2rsuqlO0w="}

    assert client.post("/webhook/twilio/", data=body, headers=slash).status_code == 200
    assert client.post("/webhook/twilio/", data=body, headers=plain).status_code == 401
    assert client.post("/webhook/twilio", data=body, headers=slash).status_code == 401
    assert client.post("/webhook/twilio", data=body, headers=plain).status_code == 200
