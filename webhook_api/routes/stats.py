"""GET /stats: how many messages, of which senders, and when."""

from flask import Blueprint, Response, jsonify, request

from webhook_api.db import reader
from webhook_api.models import StatsQuery, parse_query
from webhook_api.reading.stats import compute_stats, stats_take_long
from webhook_api.responses import Sender, Statistics

bp = Blueprint("stats", __name__)


@bp.get("/stats")
def show_stats() -> Response:
    """Respond with the statistics of all messages, or of those that the query asks for (spec 3)."""
    query = parse_query(StatsQuery, request.args)
    with reader(takes_long=stats_take_long(query)) as db:
        stats = compute_stats(db, query)
    top: list[Sender] = [{"from": sender, "count": count} for sender, count in stats.top_senders]
    return jsonify(
        Statistics(
            total_messages=stats.total,
            senders_count=stats.senders,
            messages_per_sender=top,
            first_message_ts=stats.first_ts,
            last_message_ts=stats.last_ts,
        )
    )
