"""Answering from the file: pages, search, statistics, and whose turn it is to read."""
