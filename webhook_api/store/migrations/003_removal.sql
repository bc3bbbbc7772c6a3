-- What is left of a message that was removed: a digest of its id, with the key below, so that a
-- repeat is a duplicate. The id itself is not kept.
CREATE TABLE tombstones (
    digest BLOB PRIMARY KEY  -- 16 bytes: BLAKE2b of message_id in UTF-8
) WITHOUT ROWID, STRICT;

ALTER TABLE totals ADD COLUMN tombstone_key BLOB;
UPDATE totals SET tombstone_key = randomblob(32);
