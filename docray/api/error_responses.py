"""Errors become HTTP here, once: status by class, one shape, nothing but what the error says on purpose."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from docray.domain.errors import (
    Conflict,
    DocrayError,
    IdempotencyInProgress,
    InsufficientScope,
    InvalidField,
    InvalidRequest,
    LostLease,
    MalformedJson,
    MalformedMultipart,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    RateLimit,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)

_STATUS: Mapping[type[BaseException], int] = {
    MalformedJson: 400,
    MalformedMultipart: 400,
    Unauthenticated: 401,
    InsufficientScope: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    PreconditionFailed: 412,
    Conflict: 409,
    TooLarge: 413,
    UnsupportedMedia: 415,
    RangeNotSatisfiable: 416,
    InvalidRequest: 422,
    RateLimit: 429,
    Unavailable: 503,
    DocrayError: 500,
}


def status_of(error: DocrayError) -> int:
    """The HTTP status, by the first class of the error that has one."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def error_object(error: DocrayError, request_id: str) -> dict[str, Any]:
    """The body of every error. What is our own fault says only that."""
    if isinstance(error, LostLease):  # an idempotent request ran so long that another one took its key over
        error = IdempotencyInProgress()
    if status_of(error) == 500:
        error = DocrayError()
    return {
        "error": {
            "type": error.type,
            "code": error.code,
            "message": error.message,
            "param": error.param,
            "request_id": request_id,
            "retryable": error.retryable,
        }
    }


def error_response(error: DocrayError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for an error."""
    if isinstance(error, LostLease):
        error = IdempotencyInProgress()
    status = status_of(error)
    extra = dict(headers or {})
    if status == 401:
        extra["WWW-Authenticate"] = "Bearer"
    if status in (429, 503):
        extra["Retry-After"] = str(max(1, math.ceil(error.retry_after_s or 1)))
    return Response(orjson.dumps(error_object(error, request_id)), status, extra, "application/json")


def request_id_of(request: Request) -> str:
    """The id that the outermost middleware gave this request."""
    return str(request.scope["state"]["request_id"])


def field_error(errors: Sequence[Mapping[str, Any]]) -> DocrayError:
    """The first thing that a validation found: NotFound for a path that names nothing, InvalidField otherwise."""
    first = errors[0]
    place, *names = first["loc"]
    if place == "path":
        return NotFound()
    param = ".".join(map(str, names)) or None
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "This field is not known here. Leave it out"
    elif first["type"] == "missing" and param is None:
        message = "A body is needed. Send a JSON object"
    return InvalidField(f"{param or 'The body'}: {message.rstrip('.')}.", param)


async def on_docray_error(request: Request, error: Exception) -> Response:
    """Exception handler for what docray raises on purpose."""
    assert isinstance(error, DocrayError)
    return error_response(error, request_id_of(request))


async def on_validation_error(request: Request, error: Exception) -> Response:
    """Exception handler for a request that FastAPI refuses."""
    assert isinstance(error, RequestValidationError)
    return error_response(field_error(error.errors()), request_id_of(request))


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Exception handler for what the framework raises: no such route, no such method."""
    assert isinstance(error, HTTPException)
    request_id = request_id_of(request)
    if error.status_code == 405:
        return error_response(MethodNotAllowed(), request_id, {"Allow": ", ".join(sorted(_methods_of(request)))})
    if error.status_code == 404:
        return error_response(NotFound(), request_id)
    return error_response(InvalidRequest() if error.status_code < 500 else DocrayError(), request_id)


def _methods_of(request: Request) -> set[str]:
    """Every method that some route has for this path."""
    found: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches({**request.scope, "method": ""})
        if match is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found
