"""The API, in this process."""
