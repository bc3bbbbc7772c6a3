"""The HTTP server: Gunicorn, with our own worker, which waits for clients without threads."""

from webhook_api.server.affinity import Core
from webhook_api.server.gunicorn_log import JsonLogger
from webhook_api.server.states import Limits
from webhook_api.server.worker import PatientWorker

__all__ = ["Core", "JsonLogger", "Limits", "PatientWorker"]
