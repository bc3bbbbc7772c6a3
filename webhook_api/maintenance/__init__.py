"""The care of the database: backups, restore, compaction, checks, removal. Knows no HTTP.

What every function may raise, as in `store`, is not repeated at each.
"""
