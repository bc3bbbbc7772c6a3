"""Phone numbers on the command line: +919876543210."""

from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from webhook_api.models import PhoneNumber

_NUMBER: TypeAdapter[str] = TypeAdapter(PhoneNumber)


class Number(click.ParamType[str]):
    """A number as messages have it: `+` and digits."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return _NUMBER.validate_python(value)
        except ValidationError:
            self.fail(f"{value!r} is no number, as in +919876543210", param, ctx)
