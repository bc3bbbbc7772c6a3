"""The description of the API (OpenAPI 3.1), served at /openapi.json.

What never changes is `openapi.json` beside this file. Added here is what the code knows: the
schemas of its types, what every response and operation has, and which providers and reads are set
up. A `description` of several lines is a list there, for JSON has no such strings.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from webhook_api import responses
from webhook_api.models import ConsumerMove, FeedQuery, InboundMessage, MessageQuery, StatsQuery

Json = dict[str, Any]

ASSETS = Path(__file__).with_name("static")  # style sheets, scripts and images of the pages
_CONSTANT = Path(__file__).with_name("openapi.json")
_TYPES: list[type] = [
    InboundMessage,
    ConsumerMove,
    # Those with a configuration: all that are exact.
    *(one for one in vars(responses).values() if hasattr(one, "__pydantic_config__")),
]
_OF_A_PROVIDER = "/webhook/"  # and its name: the path
_TOKEN = "read_token"  # noqa: S105 - the name of its scheme


@cache
def describe_api(providers: frozenset[str] = frozenset(), *, token_needed: bool = False) -> Json:
    """Return the OpenAPI document of a service with these providers, and reads behind a token.

    It is the same object each time, so do not change it.
    """
    document: Json = json.loads(_CONSTANT.read_text(), object_hook=_with_description)
    paths, components = document["paths"], document["components"]
    for path in list(paths):
        if path.startswith(_OF_A_PROVIDER) and path.removeprefix(_OF_A_PROVIDER) not in providers:
            del paths[path]
    if not token_needed:
        _leave_out_the_token(document)
    securities = (one for each in _operations(document) for one in each.get("security", ()))
    used = {name for security in securities for name in security}
    schemes = components["securitySchemes"]
    components["securitySchemes"] = {name: schemes[name] for name in schemes if name in used}

    paths["/messages"]["get"]["parameters"] = _parameters(MessageQuery, FeedQuery)
    paths["/stats"]["get"]["parameters"] = _parameters(StatsQuery)
    (filename,) = paths["/docs/{filename}"]["get"]["parameters"]
    filename["schema"]["enum"] = sorted(file.name.removesuffix(".gz") for file in ASSETS.iterdir())
    components["schemas"] = _schemas()
    described = list(components["responses"].values())
    for operation in _operations(document):
        operation["responses"]["500"] = {"$ref": "#/components/responses/InternalError"}
        described += (one for one in operation["responses"].values() if "$ref" not in one)
    for response in described:
        headers = response.setdefault("headers", {})
        headers["X-Request-ID"] = {"$ref": "#/components/headers/X-Request-ID"}
    return document


def _with_description(value: Json) -> Json:
    lines = value.get("description")
    return value | {"description": "\n".join(lines)} if isinstance(lines, list) else value


def _operations(document: Json) -> Iterator[Json]:
    for item in document["paths"].values():
        yield from item.values()


def _leave_out_the_token(document: Json) -> None:
    for operation in _operations(document):
        if operation.get("security") == [{_TOKEN: []}]:
            del operation["security"], operation["responses"]["401"]
    del document["components"]["responses"]["TokenNeeded"]
    del document["components"]["headers"]["WWW-Authenticate"]


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        # "Message Id" says nothing that `message_id` does not.
        return False


def _schemas() -> Json:
    """Return the schema of each type that goes in or out, by its name."""
    _, schemas = TypeAdapter.json_schemas(
        [(one.__name__, "validation", TypeAdapter[Any](one)) for one in _TYPES],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Untitled,
    )
    definitions: Json = schemas["$defs"]
    return definitions


def _parameters(*models: type[BaseModel]) -> list[Json]:
    """Return the fields of query models as query parameters; of one name, the first."""
    properties: Json = {}
    for model in models:
        found = model.model_json_schema(schema_generator=_Untitled)["properties"]
        properties = found | properties
    return [_parameter(name, schema) for name, schema in properties.items()]


def _parameter(name: str, schema: Json) -> Json:
    described = {
        "name": name,
        "in": "query",
        "description": schema.pop("description"),
        "allowEmptyValue": True,
    }
    examples = schema.pop("examples", None)
    if "anyOf" in schema:
        # A URL cannot say null: a parameter that may be None is one that may be left out.
        schema = schema["anyOf"][0]
    if examples:
        # Not as the parameter's `example`, which Swagger UI sends unless it is deleted.
        schema = {**schema, "examples": examples}
        described["description"] += f" Example: `{examples[0]}`"
    return {**described, "schema": schema}
