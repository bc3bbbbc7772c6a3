"""The pages at /inbox, without a browser."""
