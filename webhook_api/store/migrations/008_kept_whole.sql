-- Who delivered a message, the provider's own word for its kind, and the provider's own object for
-- it, whole. They are the last columns, so that what reads the others need not read a long payload.
ALTER TABLE messages ADD COLUMN provider TEXT NOT NULL DEFAULT 'webhook';
ALTER TABLE messages ADD COLUMN kind TEXT;     -- null: not known
ALTER TABLE messages ADD COLUMN payload TEXT;  -- JSON; null: there was none, or it was not kept

-- Messages from before: the prefix of their ids says where they came from.
DROP TRIGGER messages_are_final;
UPDATE messages SET provider = 'meta' WHERE message_id >= 'meta:' AND message_id < 'meta;';
UPDATE messages SET provider = 'twilio' WHERE message_id >= 'twilio:' AND message_id < 'twilio;';
UPDATE messages SET provider = 'standard'
    WHERE message_id >= 'standard:' AND message_id < 'standard;';

CREATE TRIGGER messages_are_final BEFORE UPDATE ON messages BEGIN
    SELECT raise(ABORT, 'messages are filed once and never changed');
END;

-- Signed deliveries of which at least one message could not be stored, as they came.
CREATE TABLE dead_letters (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice
    provider   TEXT NOT NULL,
    reason     TEXT NOT NULL,
    headers    TEXT NOT NULL,     -- JSON: those that matter
    body       BLOB NOT NULL,
    created_at TEXT NOT NULL      -- server time, ISO-8601, UTC
) STRICT;

-- How many there are, and how long their bodies are in all: both have a limit.
ALTER TABLE totals ADD COLUMN dead_letters INTEGER NOT NULL DEFAULT 0;
ALTER TABLE totals ADD COLUMN dead_bytes INTEGER NOT NULL DEFAULT 0;

CREATE TRIGGER count_dead_letter AFTER INSERT ON dead_letters BEGIN
    UPDATE totals SET dead_letters = dead_letters + 1, dead_bytes = dead_bytes + length(new.body);
END;

CREATE TRIGGER discount_dead_letter AFTER DELETE ON dead_letters BEGIN
    UPDATE totals SET dead_letters = dead_letters - 1, dead_bytes = dead_bytes - length(old.body);
END;
