"""Fixed test vectors for the signature, made with openssl and with none of our code.

printf '%s' BODY | openssl dgst -sha256 -hmac SECRET
"""

import pytest
from flask.testing import FlaskClient

from webhook_api.intake.signature import sign, verify_signature

HELLO = (
    b'{"message_id":"m1","from":"+919876543210","to":"+14155550100",'
    b'"ts":"2025-01-15T10:00:00Z","text":"Hello"}'
)

VECTORS = [
    pytest.param(
        "testsecret",
        HELLO,
        "ff1016e524bc9299d18988ecf27a880af9428140e3850af0c73ea1eef091a4cb",
        id="a message",
    ),
    pytest.param(
        "testsecret",
        HELLO + b"\n",
        "ad767e03667050a8e8308f05d8c1154a98dd3e8f3e64a6bdac2c3c2d5cc0f889",
        id="with a newline at its end",
    ),
    pytest.param(
        "testsecret",
        b"",
        "883a1369fa89dbc40b32496dbec4174276f9899e88cdfdbf1b6327c2ebc7ffcb",
        id="nothing",
    ),
    pytest.param(
        "testsecret",
        bytes(range(256)),
        "51ad52465758523093e2f1288d31d9d1cdaff94c643b818fbe1d65eeb3adfb7e",
        id="every byte",
    ),
    pytest.param(
        "gehëim 🔑",
        '{"text":"À L\'ÉCOLE 🏫"}'.encode(),
        "fa70a04d3327925a7db1257041f35c7c2c1ea359cb3861020c3ad66d0c9b54fd",
        id="UTF-8",
    ),
    pytest.param(
        "k" * 100,
        HELLO,
        "387e9b0932b160b1d8ff981a233d058308ef5e2af7353147bf18c4023d9f700c",
        id="a secret longer than a block",
    ),
]


@pytest.mark.parametrize(("secret", "body", "signature"), VECTORS)
def test_a_signature_is_the_one_of_openssl(secret: str, body: bytes, signature: str) -> None:
    assert sign(secret, body) == signature

    verify_signature(secret, body, signature)
    verify_signature(secret, body, f"sha256={signature.upper()}")


def test_the_service_takes_what_openssl_signed(client: FlaskClient) -> None:
    response = client.post(
        "/webhook",
        data=HELLO,
        headers={"X-Signature": "ff1016e524bc9299d18988ecf27a880af9428140e3850af0c73ea1eef091a4cb"},
    )

    assert (response.status_code, response.json) == (200, {"status": "ok"})
