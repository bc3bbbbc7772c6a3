"""The settings that the master reads at the start and at each SIGHUP, and its workers inherit.

So a worker that replaces a dead one has the settings of the others, even if the files of the
secrets have changed since.
"""

import logging

from webhook_api.config import Config, ConfigError

logger = logging.getLogger(__name__)


class InheritedSettings:
    """What was read last; the workers that are started from then on have it."""

    def __init__(self) -> None:
        self._settings: Config | None = None

    @property
    def settings(self) -> Config | None:
        """The settings that the master has read; None without a master, as in a command."""
        return self._settings

    def read(self) -> Config:
        """Read the settings again and return them; if they are wrong now, the earlier ones.

        Raises:
            ConfigError: they are wrong, and there are no earlier ones.
        """
        try:
            self._settings = Config.from_env()
        except ConfigError as error:
            if self._settings is None:
                raise
            logger.error("settings stay as they were: %s", error)
        else:
            for name in self._settings.repeated_secrets:
                logger.warning("%s repeats the current secret: no older one is accepted", name)
        return self._settings


INHERITED = InheritedSettings()  # of this process and those that it forks
