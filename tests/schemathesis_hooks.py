"""Tells Schemathesis what the API's description cannot: how to sign, and what cursors are."""

import schemathesis
from hypothesis import strategies as st
from requests import PreparedRequest
from requests.auth import AuthBase

from tests.builders import signed
from webhook_api.models import Cursor
from webhook_api.timestamps import Instant


class SignBody(AuthBase):
    """Signs the bytes that are about to be sent."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        body = request.body or b""
        if isinstance(body, str):
            body = body.encode()
        assert isinstance(body, bytes)
        request.headers.update(signed(body))
        return request


# Set when the module is imported, so its type does not show it.
schemathesis.auth.set_from_requests(SignBody()).apply_to(path="/webhook")  # type: ignore[attr-defined]

timestamps = st.datetimes().map(lambda moment: moment.isoformat() + "Z")
cursors = st.builds(
    Cursor,
    st.builds(Instant, st.integers(-(2**40), 2**40), st.integers(0, 999_999_999)),
    st.integers(0, 2**63 - 1),
).map(Cursor.encode)
schemathesis.openapi.format("date-time", timestamps)
schemathesis.openapi.format("cursor", cursors)
schemathesis.openapi.format("position", st.sampled_from(["start", "now"]))
