"""The schemas of bodies, responses and parameters, derived from the types that the code uses."""

from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from webhook_api.answers import (
    Accepted,
    Alive,
    ConsumerList,
    ConsumerState,
    Error,
    Faults,
    FeedMessage,
    FeedPage,
    Message,
    Page,
    Ready,
    Statistics,
    WholeMessage,
    WrongState,
)
from webhook_api.models import ConsumerMove, InboundMessage

Json = dict[str, Any]

_TYPES: list[type] = [
    InboundMessage, Accepted, Message, WholeMessage, Page, Statistics, Alive, Ready, Error, Faults,
    FeedMessage, FeedPage, ConsumerMove, ConsumerState, ConsumerList, WrongState,
]  # fmt: skip


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        # "Message Id" says nothing that `message_id` does not.
        return False


def schemas() -> Json:
    """Return the schema of each type that goes in or out, by its name."""
    _, schemas = TypeAdapter.json_schemas(
        [(one.__name__, "validation", TypeAdapter[Any](one)) for one in _TYPES],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Untitled,
    )
    definitions: Json = schemas["$defs"]
    return definitions


def parameters(model: type[BaseModel]) -> list[Json]:
    """Return the fields of a query model as query parameters."""
    properties = model.model_json_schema(schema_generator=_Untitled)["properties"]
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
