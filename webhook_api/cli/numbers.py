"""Numbers and other addresses on the command line: +919876543210, US.1349, 68849."""

import re
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from webhook_api.models import PhoneNumber

_NUMBER: TypeAdapter[str] = TypeAdapter(PhoneNumber)
# A short code, or what begins with a letter. More digits are a number without its plus.
_OTHER_ADDRESS = re.compile(r"[0-9]{3,8}|[^\W\d_].*")


class Number(click.ParamType[str]):
    """An address as messages have it: `+` and digits, or what else a provider calls a sender."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if _OTHER_ADDRESS.fullmatch(value) and value.isprintable():
            return str(value)
        try:
            return _NUMBER.validate_python(value)
        except ValidationError:
            self.fail(f"{value!r} is no number, as in +919876543210", param, ctx)
