"""What there is: /openapi.json describes the API, /docs is a page to try it, / lists the routes."""

import gzip
import mimetypes
from functools import cache
from io import BytesIO

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
    send_file,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

from webhook_api.services import current_services
from webhook_api.web.access import current_read_token
from webhook_api.web.openapi import ASSETS, describe_api

# What Swagger UI needs: our files, images inside its style sheet, and requests to this service.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

bp = Blueprint("docs", __name__)

# The large files are stored packed, as nearly every client receives them: a quarter as long,
# and no worker spends time on packing.
_PACKED = ".gz"
_FILES = {file.name.removesuffix(_PACKED): file for file in ASSETS.iterdir()}


@bp.get("/")
def show_root() -> AnyResponse:
    """Respond with 303 to the inbox if the client asks for HTML, else with each path's methods."""
    # curl accepts anything, and gets JSON.
    wanted = request.accept_mimetypes.best_match(["application/json", "text/html"])
    to_inbox = wanted == "text/html"
    response = redirect(url_for("inbox.show_inbox"), 303) if to_inbox else _list_routes()
    response.vary.add("Accept")
    return response


def _list_routes() -> Response:
    routes: dict[str, list[str]] = {}
    for rule in sorted(current_app.url_map.iter_rules(), key=lambda rule: rule.rule):
        methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        routes[rule.rule] = sorted({*routes.get(rule.rule, []), *methods})
    return jsonify(routes=routes)


@bp.get("/openapi.json")
def show_description() -> Response:
    """Respond with the description of this API (OpenAPI 3.1)."""
    providers = frozenset(current_services().providers)
    return jsonify(describe_api(providers, token_needed=bool(current_read_token())))


@bp.get("/docs")
def show_docs() -> Response:
    """Respond with the page, which loads nothing from other hosts."""
    response = make_response(render_template("docs.html", token_needed=bool(current_read_token())))
    response.headers["Content-Security-Policy"] = _PAGE_POLICY
    return response


@bp.get("/docs/<path:filename>")
def show_asset(filename: str) -> Response:
    """Respond with a file of that page: packed, if it is stored packed and the client takes gzip.

    It has an ETag, and the client checks it each time, so an upgrade is seen at once.
    """
    file = _FILES.get(filename)
    if file is None:
        abort(404)
    content_type = mimetypes.guess_type(filename)[0] or "text/plain"
    if file.suffix != _PACKED:
        return send_file(file, content_type)
    if request.accept_encodings["gzip"] > 0:
        response = send_file(file, content_type)
        response.headers["Content-Encoding"] = "gzip"
    else:
        content = _unpacked(filename)
        # Another representation needs another ETag (RFC 9110, 8.8.3.3).
        response = send_file(BytesIO(content), content_type, etag=f"{len(content)}-unpacked")
    response.vary.add("Accept-Encoding")
    return response


@cache
def _unpacked(filename: str) -> bytes:
    return gzip.decompress(_FILES[filename].read_bytes())
