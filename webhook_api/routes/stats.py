"""GET /stats: how many messages, of which senders, and when."""

from functools import partial

from flask import Blueprint, Response, current_app, jsonify, request

from webhook_api.answers import Sender, Statistics
from webhook_api.db import get_db
from webhook_api.models import StatsQuery, parse_query
from webhook_api.reading.stats import compute_stats
from webhook_api.reading.turns import Reading
from webhook_api.web.client_left import whether_client_left

bp = Blueprint("stats", __name__)


@bp.get("/stats")
def show_stats() -> Response:
    """Answer with the statistics of all messages, or of those that the query asks for (spec 3).

    Raises:
        RequestRefused: 422 or 503, see `errors`.
    """
    query = parse_query(StatsQuery, request.args)
    if query.since or query.until:
        reading: Reading = current_app.extensions["reading"]
        stats = reading.read(
            partial(compute_stats, query=query), whether_client_left(request.environ)
        )
    else:
        stats = compute_stats(get_db(), query)
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
