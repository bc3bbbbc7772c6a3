-- The whole schema of the present version. It makes a new file; an older one is brought to it by
-- the steps in migrations/. Both end in the same schema, byte for byte.
--
-- A change is made here and in a new step, both with the same text. SQLite itself adds a column at
-- the end of a table, on one line and before its bracket: so it stands here. What there is to say
-- about such a column stands above the table.

-- Messages, in the specification's columns and a few of our own. Rows are stored once and never
-- changed: the counters and the search index rely on it.
--   provider  who delivered it
--   kind      the provider's own word for its kind; null: not known
--   payload   the provider's own object for it, complete, in JSON; null: there was none, or it was
--             not kept. The last columns, so that what reads the others need not read it.
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
, provider TEXT NOT NULL DEFAULT 'webhook', kind TEXT, payload TEXT) STRICT;

-- The order of pages. With the sender, so that how many messages each sender sent in some days can
-- be read from this index alone; and so the messages to one number, or of one provider.
CREATE INDEX messages_by_instant
    ON messages (seconds, nanos, message_id, from_msisdn, to_msisdn, provider);
CREATE INDEX messages_by_sender ON messages (from_msisdn, seconds, nanos, message_id);

CREATE TRIGGER messages_are_final BEFORE UPDATE ON messages BEGIN
    SELECT raise(ABORT, 'messages are filed once and never changed');
END;

-- What is left of a message that was removed: a digest of its id, with totals.tombstone_key, so
-- that a repeat is a duplicate. The id itself is not kept.
CREATE TABLE tombstones (
    digest BLOB PRIMARY KEY  -- 16 bytes: BLAKE2b of message_id in UTF-8
) WITHOUT ROWID, STRICT;

-- Signed deliveries of which at least one message could not be stored, as they came.
CREATE TABLE dead_letters (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice
    provider   TEXT NOT NULL,
    reason     TEXT NOT NULL,
    headers    TEXT NOT NULL,     -- JSON: those that matter
    body       BLOB NOT NULL,
    created_at TEXT NOT NULL      -- server time, ISO-8601, UTC
) STRICT;


-- Counters, kept by the transaction that adds or removes a row, whoever runs it.

-- One row.
--   last_deletion  a number drawn with each removal. It tells two files apart that had as many
--                  removals, but of different rows: one was restored from a backup in between
--   probes         the readiness probe counts here, to write something that differs each time
--   tombstone_key  32 random bytes
--   dead_letters   how many there are, and dead_bytes: how long their bodies are; both have a limit
CREATE TABLE totals (
    only_row  INTEGER PRIMARY KEY CHECK (only_row = 1),
    messages  INTEGER NOT NULL,
    senders   INTEGER NOT NULL,
    deletions INTEGER NOT NULL,    -- how many rows were ever removed
    indexed   INTEGER NOT NULL     -- rows up to this id are in the search index
, last_deletion INTEGER NOT NULL DEFAULT 0, probes INTEGER NOT NULL DEFAULT 0, tombstone_key BLOB, dead_letters INTEGER NOT NULL DEFAULT 0, dead_bytes INTEGER NOT NULL DEFAULT 0) STRICT;

INSERT INTO totals (only_row, messages, senders, deletions, indexed, tombstone_key)
    VALUES (1, 0, 0, 0, 0, randomblob(32));

CREATE TABLE senders (
    from_msisdn TEXT PRIMARY KEY,
    messages    INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE INDEX senders_by_messages ON senders (messages DESC, from_msisdn);

-- How many messages fall into each period of 16 s, an hour, a day, and 256 days. Each length
-- divides the next, so a count up to any instant is the sum of at most 225 rows of 16 s, 24 hours,
-- 256 days, and the rows of 256 days.
CREATE TABLE periods (
    length   INTEGER NOT NULL,     -- in seconds: 16, 3600, 86400 or 22118400
    start    INTEGER NOT NULL,     -- seconds since 1970; a multiple of length
    messages INTEGER NOT NULL,
    PRIMARY KEY (length, start)
) WITHOUT ROWID, STRICT;

-- A start is rounded down, also before 1970: there SQLite's remainder is negative, so a length is
-- added to it, and the remainder taken again.
CREATE TRIGGER count_message AFTER INSERT ON messages BEGIN
    INSERT INTO senders VALUES (new.from_msisdn, 1)
        ON CONFLICT DO UPDATE SET messages = messages + 1;
    INSERT INTO periods VALUES
        (16, new.seconds - (new.seconds % 16 + 16) % 16, 1),
        (3600, new.seconds - (new.seconds % 3600 + 3600) % 3600, 1),
        (86400, new.seconds - (new.seconds % 86400 + 86400) % 86400, 1),
        (22118400, new.seconds - (new.seconds % 22118400 + 22118400) % 22118400, 1)
        ON CONFLICT DO UPDATE SET messages = messages + 1;
    UPDATE totals SET messages = messages + 1;
END;

-- Each condition is one that SQLite can look up. For (length, start) IN (VALUES ...) it would read
-- all periods, twice for each removed message: 0.3 s with a million of them.
CREATE TRIGGER uncount_message AFTER DELETE ON messages BEGIN
    UPDATE senders SET messages = messages - 1 WHERE from_msisdn = old.from_msisdn;
    DELETE FROM senders WHERE from_msisdn = old.from_msisdn AND messages = 0;
    UPDATE periods SET messages = messages - 1
        WHERE (length = 16 AND start = old.seconds - (old.seconds % 16 + 16) % 16)
           OR (length = 3600 AND start = old.seconds - (old.seconds % 3600 + 3600) % 3600)
           OR (length = 86400 AND start = old.seconds - (old.seconds % 86400 + 86400) % 86400)
           OR (length = 22118400
               AND start = old.seconds - (old.seconds % 22118400 + 22118400) % 22118400);
    DELETE FROM periods
        WHERE ((length = 16 AND start = old.seconds - (old.seconds % 16 + 16) % 16)
            OR (length = 3600 AND start = old.seconds - (old.seconds % 3600 + 3600) % 3600)
            OR (length = 86400 AND start = old.seconds - (old.seconds % 86400 + 86400) % 86400)
            OR (length = 22118400
                AND start = old.seconds - (old.seconds % 22118400 + 22118400) % 22118400))
        AND messages = 0;
    UPDATE totals SET messages = messages - 1, deletions = deletions + 1, last_deletion = random();
END;

CREATE TRIGGER count_sender AFTER INSERT ON senders BEGIN
    UPDATE totals SET senders = senders + 1;
END;

CREATE TRIGGER uncount_sender AFTER DELETE ON senders BEGIN
    UPDATE totals SET senders = senders - 1;
END;

CREATE TRIGGER count_dead_letter AFTER INSERT ON dead_letters BEGIN
    UPDATE totals SET dead_letters = dead_letters + 1, dead_bytes = dead_bytes + length(new.body);
END;

CREATE TRIGGER uncount_dead_letter AFTER DELETE ON dead_letters BEGIN
    UPDATE totals SET dead_letters = dead_letters - 1, dead_bytes = dead_bytes - length(old.body);
END;


-- Indexes of the rows up to totals.indexed. Many rows are indexed together, a little after they
-- were stored: this costs a third of indexing each with its own commit. The few rows that are not
-- indexed yet are read. A removal takes its row out of them.

-- Each text has two more characters at its end, so that also its last two start a run of three:
-- then every run of one or two characters is the start of some term. U+0001 is in no phrase that
-- the index answers without comparing (reading/search.py).
CREATE VIEW searchable (id, body) AS
    SELECT id, coalesce(folded, text) || char(1, 1) FROM messages WHERE text IS NOT NULL;

-- Every run of three characters of a text.
CREATE VIRTUAL TABLE messages_search USING fts5 (
    body, content = 'searchable', content_rowid = 'id', tokenize = 'trigram', columnsize = 0
);

CREATE TRIGGER forget_searchable AFTER DELETE ON messages
    WHEN old.text IS NOT NULL AND old.id <= (SELECT indexed FROM totals)
BEGIN
    INSERT INTO messages_search (messages_search, rowid, body)
        VALUES ('delete', old.id, coalesce(old.folded, old.text) || char(1, 1));
END;

-- The index's terms, which can be asked for by their start: each with the number of its rows,
-- and each of its places in a text.
CREATE VIRTUAL TABLE search_terms USING fts5vocab (messages_search, row);
CREATE VIRTUAL TABLE search_places USING fts5vocab (messages_search, instance);

-- How many messages of each sender fall into each period of 2^20 seconds. In the order of periods,
-- so that rows which come in together share pages.
CREATE TABLE sender_periods (
    period      INTEGER NOT NULL,  -- seconds >> 20
    from_msisdn TEXT NOT NULL,
    messages    INTEGER NOT NULL,
    PRIMARY KEY (period, from_msisdn)
) WITHOUT ROWID, STRICT;

CREATE TRIGGER uncount_sender_period AFTER DELETE ON messages
    WHEN old.id <= (SELECT indexed FROM totals)
BEGIN
    UPDATE sender_periods SET messages = messages - 1
        WHERE period = old.seconds >> 20 AND from_msisdn = old.from_msisdn;
    DELETE FROM sender_periods
        WHERE period = old.seconds >> 20 AND from_msisdn = old.from_msisdn AND messages = 0;
END;

-- How many texts have each character in folded case. Common ones start so many runs of three that
-- the index is slower than the table.
CREATE TABLE characters (
    character TEXT PRIMARY KEY,
    messages  INTEGER NOT NULL     -- may have come down to 0
) WITHOUT ROWID, STRICT;

-- Looks for each character that there is in the removed text. With 6000 of them, as in Chinese,
-- this took 7 ms for each message. So if there are more than the text is long, the characters of
-- the text are looked up instead.
CREATE TRIGGER uncount_characters AFTER DELETE ON messages
    WHEN old.text IS NOT NULL AND old.id <= (SELECT indexed FROM totals)
    AND NOT EXISTS (
        SELECT 1 FROM characters LIMIT 1 OFFSET length(coalesce(old.folded, old.text))
    )
BEGIN
    UPDATE characters SET messages = messages - 1
        WHERE instr(lower(coalesce(old.folded, old.text)), character);
END;

CREATE TRIGGER uncount_few_of_many_characters AFTER DELETE ON messages
    WHEN old.text IS NOT NULL AND old.id <= (SELECT indexed FROM totals)
    AND EXISTS (
        SELECT 1 FROM characters LIMIT 1 OFFSET length(coalesce(old.folded, old.text))
    )
BEGIN
    UPDATE characters SET messages = messages - 1 WHERE character IN (
        WITH RECURSIVE searched (body) AS (
            SELECT lower(coalesce(old.folded, old.text))
        ), place (at) AS (
            SELECT 1 UNION ALL SELECT at + 1 FROM place, searched WHERE at < length(body)
        )
        SELECT substr(body, at, 1) FROM place, searched
    );
END;

-- The feed: what is left of removed messages that a client's position may name. The row with the
-- lowest id is the start of the feed: all messages up to there are removed, and no more is known.
CREATE TABLE removed_positions (
    id     INTEGER PRIMARY KEY,  -- of the removed message
    digits TEXT NOT NULL         -- of the position after it, see positions.py
) STRICT;

INSERT INTO removed_positions VALUES (0, '');  -- before the first message

-- How far each named consumer has come.
CREATE TABLE consumers (
    name       TEXT PRIMARY KEY,
    id         INTEGER NOT NULL,            -- of the last message that it has handled
    digits     TEXT NOT NULL,               -- of its position
    missed     INTEGER NOT NULL DEFAULT 0,  -- messages that retention removed before it read them
    updated_at TEXT NOT NULL                -- server time, ISO-8601, UTC
) WITHOUT ROWID, STRICT;
