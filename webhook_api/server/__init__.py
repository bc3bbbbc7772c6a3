"""The HTTP server: Gunicorn's gevent worker, with deadlines, bounds, and executors for requests."""
