"""Reading from the file: pages, search and statistics, and which read runs when.

A read that may take long runs in a thread `reader` (`jobs.py`), after it has waited for its turn
(`turns.py`). Any other runs in the thread of its request. The routes decide which it is.
"""
