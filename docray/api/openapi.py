"""What the generated OpenAPI needs said: errors by status, media types that are not JSON, the bearer scheme."""

from typing import Any

from docray.api.schemas.common import Error

BEARER = "bearer"

_MEANINGS = {
    304: "Unchanged since that ETag",
    400: "The body cannot be read",
    401: "No credentials, or wrong ones",
    403: "The credentials lack the scope",
    404: "Not there, not yours, or no id",
    409: "Does not fit the present state, or a request with this Idempotency-Key still runs",
    412: "Changed since that ETag",
    413: "Too large",
    415: "Not a PDF, or a Content-Type that is not understood",
    416: "The range lies outside the file",
    422: "A field is not valid, not known, or the Idempotency-Key was used for another request",
    429: "Too many requests; see Retry-After",
    500: "Our fault",
    503: "A part of the service is away; see Retry-After",
}

Responses = dict[int | str, dict[str, Any]]


def errors(*statuses: int) -> Responses:
    """Descriptions of error answers."""
    return {status: {"model": Error, "description": _MEANINGS[status]} for status in statuses}


def unchanged() -> Responses:
    """A 304."""
    return {304: {"description": _MEANINGS[304]}}


def media(media_type: str, description: str, status: int = 200, *, binary: bool = True) -> Responses:
    """An answer that is not JSON."""
    schema = {"type": "string", "format": "binary"} if binary else {"type": "string"}
    return {status: {"description": description, "content": {media_type: {"schema": schema}}}}


def parameter(name: str, schema: dict[str, Any], description: str = "", *, where: str = "query", as_json: bool = False) -> dict[str, Any]:
    """A parameter that FastAPI cannot see in the signature. `as_json`: its value is JSON text."""
    value = {"content": {"application/json": {"schema": schema}}} if as_json else {"schema": schema}
    return {"name": name, "in": where, "required": False, "description": description, **value}


IF_NONE_MATCH = parameter("If-None-Match", {"type": "string"}, "304 if it still has this ETag", where="header")


def _condition(value: dict[str, Any], ordered: dict[str, Any] | None = None) -> dict[str, Any]:
    """A value that must be equal, or operators; `ordered` are values that have an order, where that is not all of them."""
    many = {"type": "array", "items": value, "maxItems": 1000}
    comparisons = dict.fromkeys(("gt", "gte", "lt", "lte"), ordered or value)
    operators = {"eq": value, "ne": value, **comparisons, "in": many, "nin": many, "exists": {"type": "boolean"}}
    return {"anyOf": [value, {"type": "object", "properties": operators, "additionalProperties": False, "minProperties": 1}]}


_TEXT = {"type": "string", "pattern": r"^[^\x00]*$"}
_ORDERED = {"anyOf": [_TEXT, {"type": "number"}]}
_SCALAR = {"anyOf": [_TEXT, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]}
_FILTER_REF = {"$ref": "#/components/schemas/Filter"}
FILTER = {
    "title": "Filter",
    "description": "Field → value (equals) or operators. `ne` and `nin` match where the field is missing; `page` means any page of the passage.",
    "type": "object",
    "properties": {
        "filename": _condition(_TEXT),
        "title": _condition(_TEXT),
        "page": _condition({"type": "integer"}),
        "created_at": _condition({"type": "string", "format": "date-time"}),
        "and": {"type": "array", "items": _FILTER_REF, "minItems": 1},
        "or": {"type": "array", "items": _FILTER_REF, "minItems": 1},
        "not": _FILTER_REF,
    },
    "patternProperties": {r"^(metadata|attributes)\.[^\x00]+$": _condition(_SCALAR, _ORDERED)},
    "additionalProperties": False,
}
"""The component `Filter`: `docray.answering.filters` checks what is sent, this only describes it."""


def complete(described: dict[str, Any]) -> None:
    """Adds to FastAPI's document what it cannot know: the bearer scheme, and what a filter is."""
    components = described["components"]
    components["securitySchemes"] = {BEARER: {"type": "http", "scheme": "bearer", "description": "An API key (`dr_…`)"}}
    components["schemas"]["Filter"] = FILTER
    for name in ("SearchBody", "AskBody"):
        components["schemas"][name]["properties"]["filter"] = _FILTER_REF


def upload_body(form: dict[str, Any]) -> dict[str, Any]:
    """The two bodies of an upload: a form with the file, or the bytes themselves."""
    file = {"type": "string", "format": "binary", "description": "The PDF"}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": file, **form}, "required": ["file"], "additionalProperties": False}
            },
            "application/pdf": {"schema": {"type": "string", "format": "binary"}},
        },
    }
