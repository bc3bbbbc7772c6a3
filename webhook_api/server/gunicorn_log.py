"""Gunicorn's own lines, in the JSON that the application writes."""

import logging
import re
import sys

from gunicorn.config import Config as GunicornConfig
from gunicorn.glogging import Logger

from webhook_api.logs import JsonFormatter

_QUERY = re.compile(r"\?\S*")


class JsonLogger(Logger):
    """Gunicorn's logger, writing the same JSON to stdout as the application.

    Not `logconfig_dict`: with any of those set, Gunicorn prepares an access-log record for
    every request, log or no log.
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
