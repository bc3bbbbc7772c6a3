"""The bars above the list: hours and days."""

import time

from tests.builders import a_message
from tests.conftest import Api
from tests.store.files import steps_of
from webhook_api.inbox.overview import count_overview
from webhook_api.models import parse_message
from webhook_api.store.messages import insert_messages


def test_the_overview_counts_hours_and_days(api: Api) -> None:
    now = 1_736_935_200  # 2025-01-15T10:00:00Z
    stamps = [
        "2025-01-15T10:00:00Z", "2025-01-15T09:59:59.9Z", "2025-01-15T00:00:00Z",
        "2025-01-14T23:59:59Z", "2025-01-14T09:00:00Z", "2024-12-17T00:00:00Z",
        "2024-12-16T23:59:59Z", "2025-01-15T10:00:01Z", "2025-02-01T00:00:00Z",
    ]  # fmt: skip
    insert_messages(api.writer, [parse_message(a_message(message_id=ts, ts=ts)) for ts in stamps])

    overview = count_overview(api.writer, now)

    assert overview.total == len(stamps)
    assert (overview.last_day, overview.day_before) == (4, 1)
    hours = {bar.start: bar.messages for bar in overview.hours if bar.messages}
    assert hours == {now: 2, now - 3600: 1, now - 36000: 1, now - 39600: 1}
    assert [bar.messages for bar in overview.days] == [1, *[0] * 27, 2, 4]


def test_the_overview_costs_little_more_with_many_messages_in_the_last_days(api: Api) -> None:
    now = 1_736_935_200

    def cost_of(total: int) -> int:
        times = [
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - n * 30 * 86400 // total))
            for n in range(total)
        ]
        insert_messages(
            api.writer, [parse_message(a_message(message_id=ts, ts=ts)) for ts in times]
        )
        return steps_of(api.writer, lambda: count_overview(api.writer, now))

    # With 100, most hours have none.
    of_few = cost_of(100)

    assert cost_of(5000) < 2 * of_few
