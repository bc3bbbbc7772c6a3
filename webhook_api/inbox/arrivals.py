"""How many messages have arrived since a page of the inbox was shown."""

from webhook_api.inbox.queries import ArrivalsQuery
from webhook_api.reading.conditions import Conditions
from webhook_api.reading.phrase import Phrase
from webhook_api.store.connections import Connection

MAX_NEW = 100  # at most so many are looked at and reported


def newest_id(db: Connection) -> int:
    """Return the id of the message that arrived last; 0 if there is none."""
    return int(db.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0])


def count_new(db: Connection, wanted: ArrivalsQuery) -> int:
    """Return how many of the first rows that arrived after the row `wanted.above` match."""
    rows = Conditions.matching(wanted)
    if wanted.q:
        phrase = Phrase(wanted.q)
        phrase.prepare(db)
        rows.require(phrase.condition, *phrase.parameters)
    found = db.execute(
        "SELECT count(*) FROM (SELECT * FROM messages WHERE id > ? ORDER BY id LIMIT ?) m"
        f" WHERE {rows.where}",
        [wanted.above, MAX_NEW, *rows.parameters],
    )
    return int(found.fetchone()[0])
