"""The database file: its lock, its schema, and the SQL that writes messages. Knows no HTTP."""
