"""Refuses settings of Gunicorn that would break what the service promises."""

from gunicorn.config import Config as GunicornConfig

from webhook_api.server.worker import LoopWorker

_ONE_JSON_LINE = "the service writes its own lines, each a JSON object"
_REFUSED = {
    "certfile": "TLS is not served here, put a reverse proxy in front",
    "keyfile": "TLS is not served here, put a reverse proxy in front",
    "preload_app": "no database connection may cross a fork",
    "reuse_port": "a worker that stops would reset connections that it has not accepted",
    "accesslog": _ONE_JSON_LINE,
    "logconfig": _ONE_JSON_LINE,
    "logconfig_dict": _ONE_JSON_LINE,
    "logconfig_json": _ONE_JSON_LINE,
}


def refusal(cfg: GunicornConfig) -> str | None:
    """Return why Gunicorn must not start with these settings, in one line, or None.

    They may be from its command line, or from GUNICORN_CMD_ARGS.
    """
    for name, reason in _REFUSED.items():
        if cfg.settings[name].get():
            return f"{name} is set: {reason}"
    if cfg.proxy_protocol != "off" or cfg.protocol != "http":
        return "proxy_protocol or protocol is set: only HTTP/1.1 is spoken here"
    if cfg.threads != 1 and issubclass(cfg.worker_class, LoopWorker):
        return "threads is set: WEB_THREADS is the number of threads that make pages"
    return None
