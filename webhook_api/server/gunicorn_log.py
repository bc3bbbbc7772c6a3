"""Gunicorn's own log lines, in the same JSON as those of the application."""

import logging
import re
import sys

from gunicorn.config import Config as GunicornConfig
from gunicorn.glogging import Logger

from webhook_api.logs import JsonFormatter

_QUERY = re.compile(r"\?\S*")


class JsonLogger(Logger):
    """Gunicorn's logger, which writes the same JSON to stdout as the application.

    Not with `logconfig_dict`: then Gunicorn prepares an access-log record for every request, even
    if there is no access log.
    """

    def setup(self, cfg: GunicornConfig) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonFormatter())
            handler.addFilter(_without_query)
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(sys.stdout)


def _without_query(record: logging.LogRecord) -> bool:
    # Gunicorn quotes the request lines that it refuses, and a query holds phone numbers.
    record.msg, record.args = _QUERY.sub("?...", record.getMessage()), ()
    return True
