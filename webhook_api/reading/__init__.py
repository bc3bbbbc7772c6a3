"""Reading from the file: pages, search, statistics and the feed; one long read at a time."""
