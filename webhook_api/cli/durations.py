"""Durations on the command line: 90d, 12h, 8w."""

from datetime import datetime, timedelta
from typing import Any

import click

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_EXAMPLES = "as in 12h, 90d or 8w"


class Duration(click.ParamType[timedelta]):
    """A whole number above 0 and its unit; gives a `timedelta`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        number, unit = value[:-1], value[-1:]
        if unit not in _UNITS and not (unit.isdigit() or not unit):
            self.fail(f"{value!r} has an unknown unit, {_EXAMPLES}", param, ctx)
        if unit not in _UNITS:
            self.fail(f"{value!r} has no unit, {_EXAMPLES}", param, ctx)
        if not (number.isascii() and number.isdigit() and int(number[:20]) > 0):
            self.fail(
                f"{value!r} is not a whole number above 0 with a unit, {_EXAMPLES}", param, ctx
            )
        try:
            age = timedelta(**{_UNITS[unit]: int(number)})
            datetime.now() - age
        except (OverflowError, ValueError):
            self.fail(f"{value!r} is before the year 1", param, ctx)
        return age
