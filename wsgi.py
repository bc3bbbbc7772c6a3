"""The WSGI entry point: `gunicorn wsgi:app`, `flask --app wsgi`."""

from webhook_api import create_app
from webhook_api.cli import plain_failures
from webhook_api.config import INHERITED

with plain_failures():
    app = create_app(INHERITED.settings)
