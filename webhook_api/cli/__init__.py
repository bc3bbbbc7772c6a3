"""Commands for operators: `flask --app wsgi COMMAND`."""

from flask import Flask

from webhook_api.cli.bulk import export_messages, import_messages
from webhook_api.cli.command import plain_failures
from webhook_api.cli.dead_letters import dead_letters
from webhook_api.cli.deliver import send_messages, sign_body
from webhook_api.cli.files import (
    back_up_database,
    create_database,
    follow_primary,
    promote_standby,
    restore_database,
    try_replica,
    verify_database,
)
from webhook_api.cli.forward import forward_messages
from webhook_api.cli.recover import recover_messages
from webhook_api.cli.removal import forget_number, prune_messages

__all__ = ["plain_failures", "register_commands"]

_COMMANDS = (
    create_database, verify_database, back_up_database, restore_database, prune_messages,
    forget_number, dead_letters, recover_messages, import_messages, export_messages,
    forward_messages, sign_body, send_messages, try_replica, follow_primary, promote_standby,
)  # fmt: skip


def register_commands(app: Flask) -> None:
    """Add the commands to `flask`."""
    for command in _COMMANDS:
        app.cli.add_command(command)
