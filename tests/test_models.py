"""The models without HTTP: instants, cursors, and the numbers of a query."""

import string
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import a_message
from webhook_api.errors import InvalidInput
from webhook_api.models import Cursor, MessageQuery, StatsQuery, parse_message, parse_query
from webhook_api.timestamps import Instant, Timestamp


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", (0, 0)),
        ("1970-01-01T00:00:00.000000001Z", (0, 1)),
        ("1969-12-31T23:59:59.5Z", (-1, 500_000_000)),
        ("2025-01-15T10:00:00.120Z", (1_736_935_200, 120_000_000)),
        ("0001-01-01T00:00:00Z", (-62_135_596_800, 0)),
        ("9999-12-31T23:59:59.999999999Z", (253_402_300_799, 999_999_999)),
    ],
)
def test_a_timestamp_names_an_instant_to_the_nanosecond(
    text: str, instant: tuple[int, int]
) -> None:
    assert Timestamp.parse(text) == (text, instant)


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


def test_order_is_by_instant_and_not_by_text() -> None:
    texts = ["10:00:00Z", "10:00:00.000000001Z", "10:00:00.5Z", "10:00:00.51Z", "10:00:01Z"]

    instants = [Timestamp.parse(f"2025-01-15T{text}").instant for text in texts]

    assert instants == sorted(instants)
    assert texts != sorted(texts)


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


@pytest.mark.parametrize("limit", ["1", "100", "007", "00000050"])
def test_limit_is_a_whole_number_from_1_to_100(limit: str) -> None:
    assert parse_query(MessageQuery, {"limit": limit}).limit == int(limit)


@pytest.mark.parametrize("offset", [0, 1, 2**31, 2**63 - 1])
def test_offset_is_a_whole_number_of_up_to_63_bits(offset: int) -> None:
    assert parse_query(MessageQuery, {"offset": str(offset)}).offset == offset


def test_the_defaults_are_the_contracts() -> None:
    query = parse_query(MessageQuery, {})

    assert query == MessageQuery(limit=50, offset=0)
    assert (query.from_msisdn, query.since, query.q, query.cursor) == (None, None, None, None)


@pytest.mark.parametrize("model", [MessageQuery, StatsQuery])
@pytest.mark.parametrize("number", [" 919876543210", "+919876543210"])
def test_a_plus_that_came_as_a_space_is_a_plus(
    model: type[MessageQuery | StatsQuery], number: str
) -> None:
    query = parse_query(model, {"from": number, "to": number})

    assert (query.from_msisdn, query.to_msisdn) == ("+919876543210", "+919876543210")


def test_a_message_cannot_be_changed() -> None:
    message = parse_message(a_message())

    with pytest.raises(ValueError, match="frozen"):
        message.text = "other"  # type: ignore[misc]
