-- What is left of a message that was removed: enough to know its id again, so that a redelivery
-- is a duplicate. A digest under the key below, never the id itself.
CREATE TABLE tombstones (
    digest BLOB PRIMARY KEY  -- 16 bytes: BLAKE2b of message_id in UTF-8
) WITHOUT ROWID, STRICT;

ALTER TABLE totals ADD COLUMN tombstone_key BLOB;
UPDATE totals SET tombstone_key = randomblob(32);
