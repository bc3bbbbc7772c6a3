"""Reading from the file: pages, search, statistics and the feed; one long read at a time.

Whatever gets a connection here may raise `sqlite3.Error`: the database cannot be read.
"""
