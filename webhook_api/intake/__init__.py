"""The way of a delivery between its route and the file: signature, and group commit."""
