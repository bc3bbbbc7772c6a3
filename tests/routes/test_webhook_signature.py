"""POST /webhook: the signature, of the bytes as they came."""

import json
from collections.abc import Callable

import pytest

from tests.builders import a_message, encode, signed
from tests.conftest import Api
from tests.intake.test_signature import BODY, SIGNATURE

VALID = encode(a_message())
RIGHT = signed(VALID)["X-Signature"]
ANOTHER = signed(VALID, "another")["X-Signature"]
WRONG = [
    None, "", "123", "é", "ÿ" * 64, "sha256=", "0" * 64, "sha256=" + "0" * 64, "\u0080", "Ａ" * 16,
    "sha1=" + "0" * 40, ANOTHER,
]  # fmt: skip


@pytest.mark.parametrize("signature", WRONG, ids=ascii)
@pytest.mark.parametrize("body", [VALID, b"not json"])
def test_a_wrong_signature_is_401_and_stores_nothing(
    api: Api, signature: str | None, body: bytes
) -> None:
    # As a WSGI server passes on any bytes.
    header = {"HTTP_X_SIGNATURE": signature.encode().decode("latin-1")} if signature else {}
    response = api.client.post("/webhook?x=1", data=body, environ_overrides=header)

    assert (response.status_code, response.json) == (401, {"detail": "invalid signature"})
    assert api.rows("SELECT count(*) FROM messages") == [(0,)]


@pytest.mark.parametrize(
    "write",
    [str, str.upper, "sha256={}".format, lambda s: f"sha256={s.upper()}",
     lambda s: s[:9] + s[9:].upper()],
)  # fmt: skip
def test_a_signature_may_be_of_either_case_and_prefixed(
    api: Api, write: Callable[[str], str]
) -> None:
    for url, body, signature in [("/webhook?x=1", VALID, RIGHT), ("/webhook", BODY, SIGNATURE)]:
        response = api.client.post(url, data=body, headers={"X-Signature": write(signature)})

        assert (response.status_code, response.json) == (200, {"status": "ok"})


def test_two_signature_headers_are_401(api: Api) -> None:
    response = api.client.post("/webhook", data=VALID, headers=[("X-Signature", RIGHT)] * 2)

    assert response.status_code == 401


def test_the_signature_is_of_the_bytes_as_they_came(api: Api) -> None:
    spaced = json.dumps(a_message(), indent=2).encode()
    compact = json.dumps(a_message(), separators=(",", ":")).encode()

    assert api.client.post("/webhook", data=spaced, headers=signed(compact)).status_code == 401
    assert api.client.post("/webhook", data=spaced, headers=signed(spaced)).status_code == 200
