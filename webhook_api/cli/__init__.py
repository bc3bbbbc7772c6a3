"""Commands for operators: `flask --app wsgi COMMAND`."""

from flask import Flask

from webhook_api.cli.backup import back_up_database
from webhook_api.cli.bulk import export_messages, import_messages
from webhook_api.cli.dead_letters import dead_letters
from webhook_api.cli.deliver import send_messages, sign_body
from webhook_api.cli.failures import plain_failures
from webhook_api.cli.init_db import create_database
from webhook_api.cli.recover import recover_messages
from webhook_api.cli.removal import forget_number, prune_messages
from webhook_api.cli.restore import restore_database
from webhook_api.cli.verify import verify_database

__all__ = ["plain_failures", "register_commands"]


def register_commands(app: Flask) -> None:
    """Add the commands to `flask`."""
    app.cli.add_command(create_database)
    app.cli.add_command(verify_database)
    app.cli.add_command(back_up_database)
    app.cli.add_command(prune_messages)
    app.cli.add_command(forget_number)
    app.cli.add_command(restore_database)
    app.cli.add_command(dead_letters)
    app.cli.add_command(recover_messages)
    app.cli.add_command(import_messages)
    app.cli.add_command(export_messages)
    app.cli.add_command(sign_body)
    app.cli.add_command(send_messages)
