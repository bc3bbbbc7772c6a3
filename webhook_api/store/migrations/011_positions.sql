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
