-- The trigger of 002 looks for each character that there is in the removed text. With 6000 of them,
-- as in Chinese, this took 7 ms for each message. So if there are more than the text is long, the
-- characters of the text are looked up.
DROP TRIGGER discount_characters;

CREATE TRIGGER discount_characters AFTER DELETE ON messages
    WHEN old.text IS NOT NULL AND old.id <= (SELECT indexed FROM totals)
    AND NOT EXISTS (
        SELECT 1 FROM characters LIMIT 1 OFFSET length(coalesce(old.folded, old.text))
    )
BEGIN
    UPDATE characters SET messages = messages - 1
        WHERE instr(lower(coalesce(old.folded, old.text)), character);
END;

CREATE TRIGGER discount_few_of_many_characters AFTER DELETE ON messages
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
