"""GET /: redirects browsers to the inbox; other clients get the list of routes."""

from flask import Blueprint, Response, current_app, jsonify, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

bp = Blueprint("root", __name__)


@bp.get("/")
def show_root() -> AnyResponse:
    """Respond with 303 if the client asks for HTML, else with each path and its methods."""
    response = _to_inbox() if _wants_page() else _routes()
    response.vary.add("Accept")
    return response


def _wants_page() -> bool:
    # curl accepts anything, and gets JSON.
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def _to_inbox() -> AnyResponse:
    return redirect(url_for("inbox.show_inbox"), 303)


def _routes() -> Response:
    routes: dict[str, list[str]] = {}
    for rule in sorted(current_app.url_map.iter_rules(), key=lambda rule: rule.rule):
        methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        routes[rule.rule] = sorted({*routes.get(rule.rule, []), *methods})
    return jsonify(routes=routes)
