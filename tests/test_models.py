"""The models without HTTP: instants, cursors, and the numbers of a query."""

import string
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_api.errors import InvalidInput
from webhook_api.models import Cursor, MessageQuery, parse_query
from webhook_api.timestamps import Instant, Timestamp


@given(
    st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(microsecond=0)),
    st.from_regex(r"(\.[0-9]{1,9})?", fullmatch=True, alphabet="0123456789."),
)
def test_every_real_time_is_read_exactly(moment: datetime, fraction: str) -> None:
    text = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + fraction + "Z"

    seconds, nanos = Timestamp.parse(text).instant

    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds) == moment
    assert nanos == int(fraction[1:].ljust(9, "0"))


@given(
    st.datetimes(
        datetime(1, 1, 2),
        datetime(9999, 12, 30),
        timezones=st.integers(-50_000, 50_000).map(lambda offset: timezone(timedelta(0, offset))),
    )
)
def test_what_isoformat_gives_is_read_as_the_same_instant(moment: datetime) -> None:
    text, (seconds, nanos) = Timestamp.parse_iso_8601(moment.isoformat())

    since_epoch = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert timedelta(seconds=seconds, microseconds=nanos // 1000) == since_epoch
    assert Timestamp.parse(text).instant == (seconds, nanos)


INTEGERS = st.integers(-(2**63) + 1, 2**63 - 1)


@given(INTEGERS, INTEGERS, INTEGERS)
def test_a_cursor_reads_back_as_it_was_written(seconds: int, nanos: int, row_id: int) -> None:
    cursor = Cursor(Instant(seconds, nanos), row_id)

    assert Cursor.parse(cursor.encode()) == cursor
    assert cursor.encode().isascii()
    assert not set(cursor.encode()) & set("+/=&?#<>; ")


ENCODED = string.ascii_letters + string.digits + "-_"
# Some characters, as Hypothesis needs seconds until it knows all.
CHARACTERS = string.printable + "\0\x7f\x80é٣\u0301\u2028\ufeff\uffff😀\U0010ffff"


@given(st.text(CHARACTERS) | st.text(ENCODED, min_size=1, max_size=60))
def test_any_other_text_is_not_a_cursor(text: str) -> None:
    if text == "":
        assert parse_query(MessageQuery, {"cursor": text}).cursor is None
    else:
        with pytest.raises(InvalidInput, match="cursor from a Link header"):
            parse_query(MessageQuery, {"cursor": text})
