"""Commands for operators: `flask --app wsgi COMMAND`."""

from flask import Flask

from webhook_api.cli.failures import plain_failures, runs_a_command

__all__ = ["plain_failures", "register_commands", "runs_a_command"]


def register_commands(app: Flask) -> None:
    """Add the commands to `flask`."""
