"""The settings of a generation of workers: the master reads them, and all its workers inherit them.

A worker that is started later, in place of a dead one, has the same settings as those beside it,
whatever is in the files of the secrets by then.
"""

import logging

from webhook_api.config import Config, ConfigError

logger = logging.getLogger(__name__)


class Generation:
    """Settings that were read once, and are read again for each generation."""

    def __init__(self) -> None:
        self._settings: Config | None = None

    @property
    def inherited(self) -> Config | None:
        """What the master has read; None where there is no master, as in a command."""
        return self._settings

    def read(self) -> Config:
        """Return the settings of the next generation: the last ones if those now are wrong.

        Raises:
            ConfigError: they are wrong, and there are no earlier ones.
        """
        try:
            self._settings = Config.from_env()
        except ConfigError as error:
            if self._settings is None:
                raise
            logger.error("settings stay as they were: %s", error)
        return self._settings


GENERATION = Generation()  # of this process and those that it forks
