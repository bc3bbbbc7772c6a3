"""What the pages at /inbox show, and who may see them. Knows no Flask."""
