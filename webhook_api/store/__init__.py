"""The database file: its lock, its schema, and the SQL that writes messages. Knows no HTTP.

In the service, the thread `writer` of each process runs the SQL that writes
(`intake/group_commit.py`). SQL that reads runs in the thread of its request.
"""
