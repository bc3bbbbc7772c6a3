"""A group commit in the tests, and what it did."""

from typing import Any

from tests.builders import a_message
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
        self.database: Database

    def waiting(self, deliveries: int) -> None:
        self.pending = deliveries

    def committed(self, messages: int, seconds: float) -> None:
        assert seconds >= 0
        self.batches.append(messages)


def group(database: Database, record: Record, **others: Any) -> GroupCommit:
    settings: dict[str, Any] = {"deadline_s": 10.0, "max_waiting": MAX_PENDING, **others}
    commits = GroupCommit(database, record, **settings)
    record.observed.append(commits)
    record.database = database
    return commits


def store_one(commits: GroupCommit, message: InboundMessage) -> StoreResult:
    [result] = commits.store([message])
    return result


def message(**fields: Any) -> InboundMessage:
    return parse_message(a_message(**fields))


def stored(database: Database) -> list[str]:
    with database.reader() as reader:
        return [row[0] for row in reader.execute("SELECT message_id FROM messages ORDER BY id")]
