"""Pages, search, statistics: what they find, and what they cost."""
