"""Gunicorn's settings, read once for its parser and its response."""

from gunicorn.config import Config as GunicornConfig


class GunicornSettings(GunicornConfig):
    """The settings of another Config as plain attributes, as they are now.

    A Config calls two functions to read a setting, and each request reads about twenty: with it,
    parsing a request takes twice as long.
    """

    def __init__(self, cfg: GunicornConfig) -> None:
        vars(self).update(vars(cfg))
        vars(self).update({name: setting.get() for name, setting in cfg.settings.items()})
