"""Gunicorn's settings, read once for its parser and its response."""

from functools import lru_cache

from gunicorn.config import Config as GunicornConfig
from gunicorn.http.message import _ip_in_allow_list  # type: ignore[attr-defined]

_ADDRESSES = 1024  # that are remembered


class GunicornSettings(GunicornConfig):
    """The settings of another Config as plain attributes, as they are now.

    A Config calls two functions to read a setting, and each request reads about twenty.
    """

    def __init__(self, cfg: GunicornConfig) -> None:
        vars(self).update(vars(cfg))
        vars(self).update({name: setting.get() for name, setting in cfg.settings.items()})
        vars(self)["is_trusted_proxy"] = lru_cache(_ADDRESSES)(self.is_trusted_proxy)

    def is_trusted_proxy(self, address: str) -> bool:
        """Return whether Gunicorn trusts forwarding headers from the client at this IP address."""
        networks = self.forwarded_allow_networks()
        return bool(_ip_in_allow_list(address, self.forwarded_allow_ips, networks))
