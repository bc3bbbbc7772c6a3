-- Messages, in the specification's columns and a few of our own.
-- Rows are stored once and never changed: the counters and the search index rely on it.
CREATE TABLE messages (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,  -- in order of arrival; never used twice
    message_id  TEXT NOT NULL UNIQUE,
    from_msisdn TEXT NOT NULL,
    to_msisdn   TEXT NOT NULL,
    ts          TEXT NOT NULL,     -- as it was sent
    text        TEXT,
    created_at  TEXT NOT NULL,     -- server time, ISO-8601, UTC
    seconds     INTEGER NOT NULL,  -- the instant that ts names: seconds since 1970,
    nanos       INTEGER NOT NULL,  -- and nanoseconds after them, 0 to 999,999,999
    folded      TEXT               -- text in folded case, where lower(text) would not give it
) STRICT;

CREATE INDEX messages_by_instant ON messages (seconds, nanos, message_id);
CREATE INDEX messages_by_sender ON messages (from_msisdn, seconds, nanos, message_id);

CREATE TRIGGER messages_are_final BEFORE UPDATE ON messages BEGIN
    SELECT raise(ABORT, 'messages are filed once and never changed');
END;

-- Counters, kept by the transaction that adds or removes a row, whoever runs it.
CREATE TABLE senders (
    from_msisdn TEXT PRIMARY KEY,
    messages    INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE INDEX senders_by_messages ON senders (messages DESC, from_msisdn);

-- How many messages fall into each period of 2^scale seconds: 16 s, 68 min, 12 days, 8.5 years.
-- A count up to any instant is then the sum of at most 256 rows of each scale.
CREATE TABLE periods (
    scale    INTEGER NOT NULL,
    period   INTEGER NOT NULL,     -- seconds >> scale
    messages INTEGER NOT NULL,
    PRIMARY KEY (scale, period)
) WITHOUT ROWID, STRICT;

CREATE TABLE totals (
    only_row  INTEGER PRIMARY KEY CHECK (only_row = 1),
    messages  INTEGER NOT NULL,
    senders   INTEGER NOT NULL,
    deletions INTEGER NOT NULL,    -- how many rows were ever removed
    indexed   INTEGER NOT NULL     -- rows up to this id are in the search index
) STRICT;

INSERT INTO totals VALUES (1, 0, 0, 0, 0);

CREATE TRIGGER count_message AFTER INSERT ON messages BEGIN
    INSERT INTO senders VALUES (new.from_msisdn, 1)
        ON CONFLICT DO UPDATE SET messages = messages + 1;
    INSERT INTO periods VALUES
        (4, new.seconds >> 4, 1), (12, new.seconds >> 12, 1),
        (20, new.seconds >> 20, 1), (28, new.seconds >> 28, 1)
        ON CONFLICT DO UPDATE SET messages = messages + 1;
    UPDATE totals SET messages = messages + 1;
END;

CREATE TRIGGER discount_message AFTER DELETE ON messages BEGIN
    UPDATE senders SET messages = messages - 1 WHERE from_msisdn = old.from_msisdn;
    DELETE FROM senders WHERE from_msisdn = old.from_msisdn AND messages = 0;
    UPDATE periods SET messages = messages - 1
        WHERE (scale, period) IN (VALUES (4, old.seconds >> 4), (12, old.seconds >> 12),
                                         (20, old.seconds >> 20), (28, old.seconds >> 28));
    DELETE FROM periods
        WHERE (scale, period) IN (VALUES (4, old.seconds >> 4), (12, old.seconds >> 12),
                                         (20, old.seconds >> 20), (28, old.seconds >> 28))
        AND messages = 0;
    UPDATE totals SET messages = messages - 1, deletions = deletions + 1;
END;

CREATE TRIGGER count_sender AFTER INSERT ON senders BEGIN
    UPDATE totals SET senders = senders + 1;
END;

CREATE TRIGGER discount_sender AFTER DELETE ON senders BEGIN
    UPDATE totals SET senders = senders - 1;
END;

-- Search: every run of three characters of a text. Many rows are indexed at once, a little after
-- they were stored (totals.indexed). This costs a third of indexing each with its own commit. The
-- few rows that are not indexed yet are read.
CREATE VIEW searchable (id, body) AS
    SELECT id, coalesce(folded, text) FROM messages WHERE text IS NOT NULL;

CREATE VIRTUAL TABLE messages_search USING fts5 (
    body, content = 'searchable', content_rowid = 'id', tokenize = 'trigram', columnsize = 0
);

CREATE TRIGGER forget_searchable AFTER DELETE ON messages
    WHEN old.text IS NOT NULL AND old.id <= (SELECT indexed FROM totals)
BEGIN
    INSERT INTO messages_search (messages_search, rowid, body)
        VALUES ('delete', old.id, coalesce(old.folded, old.text));
END;
