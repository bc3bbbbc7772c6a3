"""The published API: its description at /openapi.json, and a page to read and try it at /docs."""

from flask import Blueprint, Response, current_app, jsonify, make_response, render_template

from webhook_api.openapi import describe_api
from webhook_api.providers.description import describe_providers

# What Swagger UI needs: our files, images inside its style sheet, and requests to this service.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# The assets: sent with an ETag, to be asked for again, so that none outlives an upgrade.
bp = Blueprint("docs", __name__, static_folder="../static", static_url_path="/docs")


@bp.get("/openapi.json")
def show_description() -> Response:
    """Answer with the description of this API (OpenAPI 3.1)."""
    return jsonify(describe_providers(describe_api(), current_app.config["PROVIDERS"]))


@bp.get("/docs")
def show_docs() -> Response:
    """Answer with the page, which asks no other host for anything."""
    response = make_response(render_template("docs.html"))
    response.headers["Content-Security-Policy"] = _PAGE_POLICY
    return response
