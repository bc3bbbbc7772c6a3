"""GET /stats: how many messages, of which senders, and when."""

from functools import partial

from flask import Blueprint, Response, jsonify, request

from webhook_api.models import StatsQuery, parse_query
from webhook_api.reading.stats import compute_stats
from webhook_api.responses import Sender, Statistics
from webhook_api.routes.page_reads import read_page

bp = Blueprint("stats", __name__)


@bp.get("/stats")
def show_stats() -> Response:
    """Respond with the statistics of all messages, or of those that the query asks for (spec 3).

    Raises:
        RequestRefused: 422 or 503, see `errors`.
    """
    query = parse_query(StatsQuery, request.args)
    takes_long = query.since is not None or query.until is not None or query.reads_all
    stats = read_page(partial(compute_stats, query=query), takes_long=takes_long)
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
