"""A group commit in the tests, and what it did."""

import threading
from typing import Any

from tests.builders import a_message
from tests.serving import wait_until
from webhook_api.intake.group_commit import GroupCommit
from webhook_api.models import InboundMessage, parse_message
from webhook_api.store.database import Database
from webhook_api.store.messages import StoreResult

MAX_PENDING = 200


class Record:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.pending = 0
        self.batches: list[int] = []
        self.observed: list[GroupCommit] = []

    def waiting(self, deliveries: int) -> None:
        self.pending = deliveries

    def committed(self, messages: int, seconds: float) -> None:
        assert seconds >= 0
        self.batches.append(messages)


def group(database: Database, record: Record, **others: Any) -> GroupCommit:
    settings: dict[str, Any] = {"deadline_s": 10.0, "max_waiting": MAX_PENDING, **others}
    commits = GroupCommit(database, record, **settings)
    record.observed.append(commits)
    return commits


def store_one(commits: GroupCommit, message: InboundMessage) -> StoreResult:
    [result] = commits.store([message])
    return result


def message(**fields: Any) -> InboundMessage:
    return parse_message(a_message(**fields))


def stored(database: Database) -> list[str]:
    with database.reader() as reader:
        return [row[0] for row in reader.execute("SELECT message_id FROM messages ORDER BY id")]


def store_together(
    commits: GroupCommit, record: Record, database: Database, messages: list[InboundMessage]
) -> list[StoreResult | Exception]:
    """Store `messages` from a thread each, all of which arrive while another process writes."""
    answers: dict[int, StoreResult | Exception] = {}

    def store(number: int) -> None:
        try:
            answers[number] = store_one(commits, messages[number])
        except Exception as error:
            answers[number] = error

    threads = [threading.Thread(target=store, args=[number]) for number in range(len(messages))]
    with database.write_lock():
        for number, thread in enumerate(threads):
            thread.start()
            wait_until(lambda number=number: record.pending > number)  # type: ignore[misc]
    for thread in threads:
        thread.join()
    return [answers[number] for number in range(len(messages))]
