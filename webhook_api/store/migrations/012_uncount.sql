-- The triggers that undo a count have names that say so.

DROP TRIGGER discount_message;
DROP TRIGGER discount_sender;
DROP TRIGGER discount_dead_letter;
DROP TRIGGER discount_sender_period;
DROP TRIGGER discount_characters;
DROP TRIGGER discount_few_of_many_characters;

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

CREATE TRIGGER uncount_sender AFTER DELETE ON senders BEGIN
    UPDATE totals SET senders = senders - 1;
END;

CREATE TRIGGER uncount_dead_letter AFTER DELETE ON dead_letters BEGIN
    UPDATE totals SET dead_letters = dead_letters - 1, dead_bytes = dead_bytes - length(old.body);
END;

CREATE TRIGGER uncount_sender_period AFTER DELETE ON messages
    WHEN old.id <= (SELECT indexed FROM totals)
BEGIN
    UPDATE sender_periods SET messages = messages - 1
        WHERE period = old.seconds >> 20 AND from_msisdn = old.from_msisdn;
    DELETE FROM sender_periods
        WHERE period = old.seconds >> 20 AND from_msisdn = old.from_msisdn AND messages = 0;
END;

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
