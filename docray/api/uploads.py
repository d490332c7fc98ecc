"""The body of an upload → a staged file and what was said about it: a multipart form, or the bytes with query parameters."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from docray.api.calls import Call
from docray.api.error_responses import field_error
from docray.api.json_bodies import body_of, declared_length
from docray.api.multipart import MultipartForm
from docray.domain.errors import InvalidField, MalformedMultipart, TooLarge, UnsupportedContentType
from docray.ingestion.intake import StagedFile, Staging

_FORM_OVERHEAD_BYTES = 1 << 20  # boundaries, headers and fields around a file
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An upload as it arrived. `fields`: name → values as text. `filename` is None where none was sent."""

    file: StagedFile
    filename: str | None
    fields: Mapping[str, list[str]]

    def parsed(self, model: type[M]) -> M:
        """The fields, checked. InvalidField names the one that is wrong, an unknown one too."""
        return parsed_fields(model, self.fields)


@contextlib.asynccontextmanager
async def receive(call: Call) -> AsyncIterator[Received]:
    """Takes the body over. When the block ends, what was not kept is gone.

    TooLarge by the length announced or as it streams, NotAPdf, MalformedMultipart, UnsupportedContentType.
    """
    kind = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("multipart/form-data", "application/pdf"):
        raise UnsupportedContentType("Send a PDF as multipart/form-data with a part `file`, or its bytes as application/pdf.")
    intake = call.parts.intake
    raw = kind == "application/pdf"
    if declared_length(call.request) > intake.max_bytes + (0 if raw else _FORM_OVERHEAD_BYTES):
        raise TooLarge(param="file")
    async with intake.receive() as staging:
        yield await (_receive_raw(call, staging) if raw else _receive_form(call, staging))


async def _receive_raw(call: Call, staging: Staging) -> Received:
    async for data in body_of(call.request, MalformedMultipart):
        await staging.write(data)
    return Received(file=await staging.finish(), filename=call.request.query_params.get("filename"), fields=_query_fields(call))


async def _receive_form(call: Call, staging: Staging) -> Received:
    """Query parameters count too; what is said in both places is said twice."""
    form = MultipartForm(call.request.headers["content-type"], call.services.settings.max_json_bytes)
    async for data in body_of(call.request, MalformedMultipart):
        for piece in form.feed(data):
            await staging.write(piece)
    form.close()
    fields = _query_fields(call)
    for name, values in form.fields.items():
        fields[name] = [*fields.get(name, ()), *values]
    return Received(file=await staging.finish(), filename=form.filename or call.request.query_params.get("filename"), fields=fields)


def _query_fields(call: Call) -> dict[str, list[str]]:
    query = call.request.query_params
    return {name: query.getlist(name) for name in query if name != "filename"}


def parsed_fields(model: type[M], fields: Mapping[str, Sequence[str]]) -> M:
    """Text fields as a model: lists where the model has lists, single values elsewhere."""
    values: dict[str, Any] = {}
    for name, texts in fields.items():
        known = model.model_fields.get(name)
        many = known is not None and getattr(known.annotation, "__origin__", None) is list
        if not many and len(texts) > 1:
            raise InvalidField(f"{name}: Send this field once.", name)
        values[name] = list(texts) if many else texts[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise field_error([{**found, "loc": ("form", *found["loc"][:1])} for found in error.errors()]) from None
