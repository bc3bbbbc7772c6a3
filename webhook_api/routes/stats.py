"""GET /stats: how many messages, of which senders, and when."""

from flask import Blueprint, Response, jsonify, request

from webhook_api.db import reader
from webhook_api.models import StatsQuery, parse_query
from webhook_api.reading.stats import compute_stats, stats_take_long

bp = Blueprint("stats", __name__)


@bp.get("/stats")
def show_stats() -> Response:
    """Respond with the statistics of all messages, or of those that the query asks for (spec 3)."""
    query = parse_query(StatsQuery, request.args)
    with reader(takes_long=stats_take_long(query)) as db:
        return jsonify(compute_stats(db, query))
