"""A delivery between its route and the file: signature, group commit."""
