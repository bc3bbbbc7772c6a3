"""The WSGI entry point: `gunicorn wsgi:app`, `flask --app wsgi`."""

import secrets
import sys

from webhook_api import create_app
from webhook_api.cli import plain_failures
from webhook_api.config import INHERITED, Config

with plain_failures():
    # The help of a command needs no setting.
    placeholder = Config(webhook_secret=secrets.token_hex()) if "--help" in sys.argv else None
    app = create_app(INHERITED.settings or placeholder)
