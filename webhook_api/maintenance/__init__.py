"""The care of the database: backups, restore, compaction, checks, removal. Knows no HTTP."""
