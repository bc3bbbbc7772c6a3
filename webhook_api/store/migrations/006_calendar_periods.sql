-- Periods as the calendar has them, so that the messages of an hour or a day are one row. Before,
-- they were 16 s, 68 min, 12 days and 8.5 years long, and an hour was the sum of up to 225 rows.
DROP TRIGGER count_message;
DROP TRIGGER discount_message;
ALTER TABLE periods RENAME TO old_periods;

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
INSERT INTO periods
    SELECT 16, period << 4, messages FROM old_periods WHERE scale = 4;
INSERT INTO periods
    SELECT 3600, start - (start % 3600 + 3600) % 3600, sum(messages)
    FROM periods WHERE length = 16 GROUP BY 2;
INSERT INTO periods
    SELECT 86400, start - (start % 86400 + 86400) % 86400, sum(messages)
    FROM periods WHERE length = 3600 GROUP BY 2;
INSERT INTO periods
    SELECT 22118400, start - (start % 22118400 + 22118400) % 22118400, sum(messages)
    FROM periods WHERE length = 86400 GROUP BY 2;
DROP TABLE old_periods;

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

-- A condition that SQLite can look up, as in 005.
CREATE TRIGGER discount_message AFTER DELETE ON messages BEGIN
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
