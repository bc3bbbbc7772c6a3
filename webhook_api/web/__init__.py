"""What surrounds every request: headers, metrics, streams, and the description of the API."""
