"""Probes: is the process alive, and could it store a message now (spec 4)."""

from flask import Blueprint

from webhook_api.db import get_db
from webhook_api.responses import Alive, Ready
from webhook_api.services import current_services
from webhook_api.store.schema import check_schema

PROBE_DEADLINE_S = 1.0

bp = Blueprint("health", __name__, url_prefix="/health")


@bp.get("/live")
def live() -> Alive:
    """Respond with 200 as long as the process serves."""
    return {"status": "alive"}


@bp.get("/ready")
@bp.get("")
def ready() -> Ready:
    """Respond with 200 if a message could be stored now; the secret was checked at the start.

    Raises:
        Unavailable: 503, with what failed.
    """
    check_schema(get_db())
    current_services().commits.check(PROBE_DEADLINE_S)
    return {"status": "ready"}
