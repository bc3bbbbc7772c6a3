"""A delivery between its route and the file: its signature, and the group commit."""
