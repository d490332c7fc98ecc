"""A document's bytes: reading the PDF, whole or in part, and replacing it."""

from typing import Annotated
from urllib.parse import quote

from fastapi import Query
from starlette.responses import Response

from docray.api.calls import Reading, Writing
from docray.api.conditional import etag, matches, not_modified
from docray.api.error_responses import error_response, request_id_of
from docray.api.idempotency import Remember, once
from docray.api.openapi import IF_NONE_MATCH, errors, media, parameter, unchanged, upload_body
from docray.api.ranges import FileSlice, wanted
from docray.api.routes.documents import accepted_reply, upload_fields
from docray.api.routes.paths import DocumentId
from docray.api.routing import make_router, needs
from docray.api.schemas.documents import Document, DuplicateDocument
from docray.api.schemas.fields import Body, Text
from docray.api.uploads import receive
from docray.domain.catalog import Content, Transaction
from docray.domain.errors import RangeNotSatisfiable
from docray.domain.jobs import StoredResponse
from docray.ingestion.service import Accepted
from docray.security.scopes import READ, WRITE

router = make_router("documents")


class _NoFields(Body):
    """A replacement says nothing beside its bytes and their name."""


@router.get(
    "/v1/documents/{document_id}/content",
    response_class=Response,
    responses={
        **media("application/pdf", "The PDF"),
        **media("application/pdf", "The bytes asked for", 206),
        **unchanged(),
        **errors(416),
    },
    openapi_extra={
        "parameters": [IF_NONE_MATCH, parameter("Range", {"type": "string"}, "One range, such as `bytes=0-1023`", where="header")]
    },
)
@needs(READ)
async def read_content(call: Reading, document_id: DocumentId) -> Response:
    """Downloads the PDF."""
    async with call.transaction() as tx:
        content = await tx.documents.content(document_id)
    tag = etag(content.sha256)
    if unchanged_response := not_modified(call.request, tag):
        return unchanged_response
    path = await call.services.blobs.open(content.blob_key)
    size = content.size_bytes
    headers = {"ETag": tag, "Accept-Ranges": "bytes", "Content-Disposition": _disposition(content), "Cache-Control": "private, no-cache"}
    condition = call.request.headers.get("if-range")
    ranged = call.request.headers.get("range") if condition is None or matches(condition, tag) else None
    try:
        part = wanted(ranged, size)
    except RangeNotSatisfiable as error:
        return error_response(error, request_id_of(call.request), {"Content-Range": f"bytes */{size}"})
    if part is None:
        return FileSlice(path, 0, size - 1, status=200, headers=headers, media_type="application/pdf")
    headers["Content-Range"] = f"bytes {part[0]}-{part[1]}/{size}"
    return FileSlice(path, *part, status=206, headers=headers, media_type="application/pdf")


def _disposition(content: Content) -> str:
    """RFC 6266: the name for everybody, and in full for those who read RFC 8187."""
    plain = "".join(letter if " " <= letter <= "~" and letter not in '"\\%' else "_" for letter in content.filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(content.filename, safe='')}"


@router.put(
    "/v1/documents/{document_id}/content",
    status_code=202,
    response_model=Document,
    response_description="Accepted: the old generation answers until the new one is published",
    responses={200: {"model": DuplicateDocument, "description": "These are the live bytes"}, **errors(400, 409, 413, 415)},
    openapi_extra={"requestBody": upload_body({})},
)
@needs(WRITE)
async def replace_content(
    call: Writing, document_id: DocumentId, filename: Annotated[Text | None, Query(description="Of a raw body: renames")] = None
) -> Response:
    """Replaces the PDF by a new generation, as multipart/form-data or as raw bytes."""
    async with call.transaction() as tx:
        await tx.documents.get(document_id)  # nobody sends 500 MB to be told that it is not there
    async with receive(call) as received:
        received.parsed(_NoFields)

        async def work(remember: Remember) -> StoredResponse:
            async def conclude(tx: Transaction, accepted: Accepted) -> StoredResponse:
                return await remember(tx, accepted_reply(accepted))

            return await call.parts.documents.replace(call.principal, document_id, received.file, received.filename, conclude)

        return await once(call, work, upload_fields(received, None))
