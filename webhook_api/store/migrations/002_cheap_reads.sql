-- With this the expensive reads need not look at each row. All that is kept for the rows up to
-- totals.indexed is made again from the first row: `migrate` does that after this step.

-- The index's terms, which can be asked for by their start: each with the number of its rows,
-- and each of its places in a text.
CREATE VIRTUAL TABLE search_terms USING fts5vocab (messages_search, row);
CREATE VIRTUAL TABLE search_places USING fts5vocab (messages_search, instance);

-- How many messages of each sender fall into each period of 2^20 seconds, of the rows up to
-- totals.indexed. In the order of periods, so that rows which come in together share pages.
CREATE TABLE sender_periods (
    period      INTEGER NOT NULL,  -- seconds >> 20
    from_msisdn TEXT NOT NULL,
    messages    INTEGER NOT NULL,
    PRIMARY KEY (period, from_msisdn)
) WITHOUT ROWID, STRICT;

-- How many texts have each character in folded case, of the rows up to totals.indexed. Common
-- ones start so many runs of three that the index is slower than the table.
CREATE TABLE characters (
    character TEXT PRIMARY KEY,
    messages  INTEGER NOT NULL     -- may have come down to 0
) WITHOUT ROWID, STRICT;

-- The trigger of 001, and it sets last_deletion (below).
DROP TRIGGER discount_message;

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
    UPDATE totals SET messages = messages - 1, deletions = deletions + 1, last_deletion = random();
END;

CREATE TRIGGER discount_sender_period AFTER DELETE ON messages
    WHEN old.id <= (SELECT indexed FROM totals)
BEGIN
    UPDATE sender_periods SET messages = messages - 1
        WHERE period = old.seconds >> 20 AND from_msisdn = old.from_msisdn;
    DELETE FROM sender_periods
        WHERE period = old.seconds >> 20 AND from_msisdn = old.from_msisdn AND messages = 0;
END;

CREATE TRIGGER discount_characters AFTER DELETE ON messages
    WHEN old.text IS NOT NULL AND old.id <= (SELECT indexed FROM totals)
BEGIN
    UPDATE characters SET messages = messages - 1
        WHERE instr(lower(coalesce(old.folded, old.text)), character);
END;

-- A number drawn with each removal. It tells two files apart that had as many removals, but of
-- different rows: one of them was restored from a backup in between.
ALTER TABLE totals ADD COLUMN last_deletion INTEGER NOT NULL DEFAULT 0;
-- The readiness probe counts here, to write something that is different each time.
ALTER TABLE totals ADD COLUMN probes INTEGER NOT NULL DEFAULT 0;

-- Each text is indexed with two more characters at its end, so that also its last two start a run
-- of three: then every run of one or two characters is the start of some term. U+0001 is in no
-- phrase that the index answers without comparing (reading/phrase.py).
DROP TRIGGER forget_searchable;
DROP VIEW searchable;
INSERT INTO messages_search (messages_search) VALUES ('delete-all');
UPDATE totals SET indexed = 0;

CREATE VIEW searchable (id, body) AS
    SELECT id, coalesce(folded, text) || char(1, 1) FROM messages WHERE text IS NOT NULL;

CREATE TRIGGER forget_searchable AFTER DELETE ON messages
    WHEN old.text IS NOT NULL AND old.id <= (SELECT indexed FROM totals)
BEGIN
    INSERT INTO messages_search (messages_search, rowid, body)
        VALUES ('delete', old.id, coalesce(old.folded, old.text) || char(1, 1));
END;
