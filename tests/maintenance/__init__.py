"""Backups, restore, compaction, checks and removal."""
