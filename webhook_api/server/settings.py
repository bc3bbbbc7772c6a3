"""Gunicorn's settings as its parser and its response need them: read once."""

from functools import lru_cache

from gunicorn.config import Config as GunicornConfig
from gunicorn.http.message import _ip_in_allow_list  # type: ignore[attr-defined]

_ADDRESSES = 1024  # that are remembered


class Settings(GunicornConfig):
    """The settings of another Config, as they are now, as plain attributes.

    A Config calls two functions whenever a setting is read, and a request reads some twenty.
    """

    def __init__(self, cfg: GunicornConfig) -> None:
        vars(self).update(vars(cfg))
        vars(self).update({name: setting.get() for name, setting in cfg.settings.items()})
        vars(self)["is_trusted_proxy"] = lru_cache(_ADDRESSES)(self.is_trusted_proxy)

    def is_trusted_proxy(self, address: str) -> bool:
        """Return if Gunicorn believes the client at an IP address in what it forwards."""
        networks = self.forwarded_allow_networks()
        return bool(_ip_in_allow_list(address, self.forwarded_allow_ips, networks))
