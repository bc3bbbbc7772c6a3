"""Signatures and payloads published by the providers, and signatures of other programs."""

import hashlib
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from tests.providers.samples import (
    APP_SECRET,
    AUTH_TOKEN,
    KEY,
    PUBLIC_URL,
    WHSEC,
    a_config,
)
from webhook_api.config import NamedKey
from webhook_api.errors import InvalidSignature
from webhook_api.outcome import SignedBy
from webhook_api.providers import meta, standard, twilio

NOW = "2025-01-15T10:00:00.000Z"
META_TEST = (
    b'{"object":"whatsapp_business_account","entry":[{"id":"0","changes":[{"field":"messages",'
    b'"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"16505551111",'
    b'"phone_number_id":"123456123"},"contacts":[{"profile":{"name":"test user name"},'
    b'"wa_id":"16315551181"}],"messages":[{"from":"16315551181","id":"ABGGFlA5Fpa",'
    b'"timestamp":"1504902988","type":"text","text":{"body":"this is a text message"}}]}}]}]}'
)


def test_the_test_delivery_of_metas_dashboard() -> None:
    """The body is the one that the "Test" button of App Dashboard, WhatsApp, Configuration sends.

    Its signature: `printf %s "$BODY" | openssl dgst -sha256 -hmac app-secret`, and the same of
    node's `crypto.createHmac`.
    """
    headers = {
        "x-hub-signature-256": "sha256="
        "cedb3ff50d084e658ab3f79e03d71347b87ee1402fe1600a908305f0fa5c3e44"
    }

    assert meta.verify((APP_SECRET,), headers, META_TEST, "") == (SignedBy.CURRENT, "")
    [message] = meta.parse(headers, META_TEST, NOW).messages

    assert message.message_id == "meta:ABGGFlA5Fpa"
    assert (message.from_msisdn, message.to_msisdn) == ("+16315551181", "+16505551111")
    assert message.ts.text == "2017-09-08T20:36:28Z"
    assert message.text == "this is a text message"


MYAPP = "https://mycompany.com/myapp.php?foo=1&bar=2"
CALL = b"Digits=1234&To=%2B18005551212&From=%2B14158675309&Caller=%2B14158675309"
CALL += b"&CallSid=CA1234567890ABCDE"


@pytest.mark.parametrize(
    ("url", "body", "signature"),
    [
        (MYAPP, CALL, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (MYAPP.replace(".com", ".com:1234"), CALL, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (MYAPP.replace("https://mycompany.com", "http://mycompany.com:1234"), CALL,
         "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),
        (MYAPP, CALL, "kvajT1Ptam85bY51eRf/AJRuM3w="),
        (MYAPP.replace("https", "http"), CALL, "0ZXoZLH/DfblKGATFgpif+LLRf4="),
        (MYAPP, b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234",
         "IK+Dwps556ElfBT0I3Rgjkr1wJU="),
        (f"{MYAPP}&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620",
         b'{"property": "value", "boolean": true}', "a9nBmqA0ju/hNViExpshrM61xv4="),
    ],
    ids=["documented", "https port removed", "http port kept", "https port added",
         "http port added", "repeated names", "JSON"],
)  # fmt: skip
def test_twilios_own_signatures(url: str, body: bytes, signature: str) -> None:
    """github.com/twilio/twilio-python, tests/unit/test_request_validator.py, token 12345."""
    headers = {"x-twilio-signature": signature}

    assert twilio.verify(("12345",), headers, body, url) == (SignedBy.CURRENT, "")
    assert twilio.verify(("new", "12345"), headers, body, url) == (SignedBy.PREVIOUS, "")
    for other_body, other_url in ((body + b" ", url), (body, url + "3")):
        with pytest.raises(InvalidSignature):
            twilio.verify(("12345",), headers, other_body, other_url)


TWILIO_URL = f"{PUBLIC_URL}/webhook/twilio"


def test_a_twilio_form_that_node_signed() -> None:
    """With `crypto.createHmac("sha1", ...)` over the URL and the sorted `URLSearchParams`."""
    body = (
        b"ToCountry=US&MediaContentType0=&MessageSid=SM1f0e8ae6ade43cb3c0ce4525424e404f"
        b"&Body=Na%C3%AFve+caf%C3%A9+%26+100%25+%F0%9F%91%8D&From=whatsapp%3A%2B14155551234"
        b"&To=whatsapp%3A%2B14155238886&NumMedia=0&SmsStatus=received"
    )
    headers = {"x-twilio-signature": "bh52Dz+frQ+ROMvsu00kPZCuhbo="}

    assert twilio.verify((AUTH_TOKEN,), headers, body, TWILIO_URL) == (SignedBy.CURRENT, "")
    [message] = twilio.parse(headers, body, NOW).messages

    assert message.message_id == "twilio:SM1f0e8ae6ade43cb3c0ce4525424e404f"
    assert (message.from_msisdn, message.to_msisdn) == ("+14155551234", "+14155238886")
    assert message.text == "Naïve café & 100% 👍"


def test_a_twilio_json_that_node_signed() -> None:
    body = b'{"MessageSid":"SMjson","From":"+14155551234","To":"+14155238886","Body":"as JSON"}'
    url = f"{TWILIO_URL}?bodySHA256={hashlib.sha256(body).hexdigest()}"
    headers = {"x-twilio-signature": "AQSMUdUtr58uqo4x1uQMNV2d8Y4="}

    assert twilio.verify((AUTH_TOKEN,), headers, body, url) == (SignedBy.CURRENT, "")
    [message] = twilio.parse(headers, body, NOW).messages

    assert (message.message_id, message.text) == ("twilio:SMjson", "as JSON")
    with pytest.raises(InvalidSignature):
        twilio.verify((AUTH_TOKEN,), headers, body.replace(b"JSON", b"json"), url)


STANDARD = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
STANDARD_BODY = b'{"test": 2432232314}'


def test_the_test_vector_of_standard_webhooks(tmp_path: Path) -> None:
    """github.com/standard-webhooks, libraries/python/tests/test_webhooks.py, `test_sign_function`.

    The same of `printf %s "$ID.$TS.$BODY" | openssl dgst -sha256 -mac HMAC -macopt hexkey:31f2...`.
    """
    keys = a_config(tmp_path, STANDARD_WEBHOOKS_SECRET=WHSEC).standard_webhooks_keys

    assert keys == (NamedKey(KEY),)
    svix = {name.replace("webhook", "svix"): value for name, value in STANDARD.items()}
    for headers in (STANDARD, svix):
        for now in (1614265330, 1614265330 - 300, 1614265330 + 300):
            used = standard.verify(keys, headers, STANDARD_BODY, "", partial(float, now))
            assert used == (SignedBy.CURRENT, "")
        for now in (1614265330 - 301, 1614265330 + 301):
            with pytest.raises(InvalidSignature):
                standard.verify(keys, headers, STANDARD_BODY, "", partial(float, now))


@pytest.mark.parametrize(
    ("signatures", "holds"),
    [
        ("v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= {} v1,Ceo5", True),
        ("v2,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= {}", True),
        (
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl {}",
            True,
        ),
        ("  {}", True),
        ("{}x", False),
        ("v2{}", False),
        ("g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", False),
        ("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=", False),
        ("v1", False),
        (",,, é", False),
        ("", False),
    ],
)
def test_one_good_signature_among_others_is_enough(signatures: str, holds: bool) -> None:
    """Spec 1.0.0, "Signature scheme": a list, for the time when a secret is replaced."""
    headers = {
        **STANDARD,
        "webhook-signature": signatures.format(STANDARD["webhook-signature"]),
    }

    expected = nullcontext() if holds else pytest.raises(InvalidSignature)
    with expected:
        standard.verify(
            (NamedKey(b"old"), NamedKey(KEY)), headers, STANDARD_BODY, "", lambda: 1614265330.0
        )
