"""The database file: its lock, its schema, and the SQL that writes messages. Knows no HTTP.

In the service, the thread `writer` of each process runs the SQL that writes
(`intake/group_commit.py`). SQL that reads runs in the thread of its request.

What every function here may raise is not repeated at each: `sqlite3.Error`, after which nothing
was written; `OSError`, of a folder or disk; `Unavailable`, if there is no file at the path;
`SchemaError`, if its schema is not ours. `Raises:` names what else there is.
"""
