"""Reading from the file: pages, search and statistics, and which read runs when."""
