"""Documents: upload, list, read, patch, retry, delete. Their bytes, pages and events have files of their own."""

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from docray.api import render
from docray.api.calls import Call, Reading, Writing
from docray.api.conditional import etag, matches, not_modified
from docray.api.idempotency import Remember, once, reply
from docray.api.openapi import IF_NONE_MATCH, errors, parameter, unchanged, upload_body
from docray.api.routes.paths import After, DocumentId, Limit
from docray.api.routing import make_router, needs
from docray.api.schemas.common import DeletedDocument
from docray.api.schemas.documents import Document, DocumentList, DuplicateDocument, PatchDocument, UploadFields
from docray.api.schemas.fields import Id, Text, Time
from docray.api.uploads import Received, receive
from docray.domain import documents as domain
from docray.domain.catalog import UNSET, DocumentQuery, Paging, Transaction
from docray.domain.errors import InvalidField, PreconditionFailed
from docray.domain.jobs import StoredResponse
from docray.ingestion.service import Accepted, DocumentPatch, Upload
from docray.security.scopes import READ, WRITE

router = make_router("documents")

_METADATA = "metadata."
_CREATE = {"type": "string", "enum": ["return", "create"], "default": "return"}
_IDS = {"type": "array", "items": {"type": "string", "format": "uuid"}}
_FORM = {"collection_id": _IDS, "metadata": {"type": "object"}, "title": {"type": "string", "maxLength": 2000}, "if_duplicate": _CREATE}


def document_etag(document: domain.Document) -> str:
    """The version grows with every visible change."""
    return etag(document.version)


def document_response(document: domain.Document) -> Response:
    """A document with its ETag."""
    return Response(
        render.dumps(render.document(document)),
        headers={"ETag": document_etag(document), "Cache-Control": "private, no-cache"},
        media_type="application/json",
    )


def accepted_reply(accepted: Accepted) -> StoredResponse:
    """202 for what is queued, 200 for what was there."""
    body = render.document(accepted.document)
    return reply(200, render.dumps({**body, "duplicate": True})) if accepted.duplicate else reply(202, render.dumps(body))


@router.post(
    "/v1/documents",
    status_code=202,
    response_model=Document,
    response_description="Accepted: it will be read, cut into passages and indexed",
    responses={
        200: {"model": DuplicateDocument, "description": "These bytes are there already, ready or in work"},
        **errors(400, 404, 409, 413, 415),
    },
    openapi_extra={
        "requestBody": upload_body(_FORM),
        "parameters": [
            parameter("filename", {"type": "string"}, "Of a raw body"),
            parameter("collection_id", _IDS, "Of a raw body; repeatable"),
            parameter("metadata", {"type": "object"}, "Of a raw body; a JSON object", as_json=True),
            parameter("title", {"type": "string", "maxLength": 2000}, "Of a raw body"),
            parameter("if_duplicate", _CREATE, "Of a raw body; `create` makes another document of bytes that are known"),
        ],
    },
)
@needs(WRITE, query=frozenset({"filename", *UploadFields.model_fields}))
async def create_document(call: Writing) -> Response:
    """Uploads a PDF, as multipart/form-data or as raw bytes."""
    async with receive(call) as received:
        fields = received.parsed(UploadFields)
        upload = Upload(
            file=received.file,
            filename=received.filename,
            title=fields.title,
            metadata=fields.metadata,
            collection_ids=tuple(dict.fromkeys(fields.collection_id)),
            create=fields.if_duplicate == "create",
        )

        async def work(remember: Remember) -> StoredResponse:
            async def conclude(tx: Transaction, accepted: Accepted) -> StoredResponse:
                return await remember(tx, accepted_reply(accepted))

            return await call.parts.documents.accept(call.principal, upload, conclude)

        return await once(call, work, upload_fields(received, fields.model_dump()))


def upload_fields(received: Received, fields: object) -> list[object]:
    """What makes an upload the same request again."""
    return [fields, received.filename, received.file.sha256]


@router.get(
    "/v1/documents",
    response_model=DocumentList,
    openapi_extra={"parameters": [parameter("metadata.KEY", {"type": "string"}, "Equals a member of metadata, as text; KEY is its name")]},
)
@needs(READ, query_prefixes=(_METADATA,))
async def list_documents(
    call: Reading,
    limit: Limit = 50,
    after: After = None,
    collection_id: Annotated[Id | None, Query(description="In this collection")] = None,
    state: Annotated[domain.State | None, Query()] = None,
    filename: Annotated[Text | None, Query(description="Exactly this name")] = None,
    q: Annotated[Text | None, Query(description="Words of name and title")] = None,
    created_after: Annotated[Time | None, Query(description="At or after")] = None,
    created_before: Annotated[Time | None, Query(description="Before")] = None,
) -> Response:
    """Lists documents, newest first."""
    query = DocumentQuery(
        collection_id=collection_id,
        state=state,
        filename=filename,
        q=q,
        metadata=_metadata_of(call),
        created_after=created_after,
        created_before=created_before,
    )
    async with call.transaction() as tx:
        found = await tx.documents.list(query, Paging(limit=limit, after=after))
    return Response(render.listing(found, render.document), media_type="application/json")


def _metadata_of(call: Call) -> dict[str, str]:
    """`metadata.KEY=value` parameters, each at most once."""
    found: dict[str, str] = {}
    for name, value in call.request.query_params.multi_items():
        if name.startswith(_METADATA):
            if name.removeprefix(_METADATA) in found:
                raise InvalidField(f"{name}: Send this parameter once.", name)
            found[name.removeprefix(_METADATA)] = value
    return found


@router.get(
    "/v1/documents/{document_id}", response_model=Document, responses=unchanged(), openapi_extra={"parameters": [IF_NONE_MATCH]}
)
@needs(READ)
async def read_document(call: Reading, document_id: DocumentId) -> Response:
    """Reads one document."""
    async with call.transaction() as tx:
        document = await tx.documents.get(document_id)
    return not_modified(call.request, document_etag(document)) or document_response(document)


@router.patch(
    "/v1/documents/{document_id}",
    response_model=Document,
    responses=errors(400, 409, 412, 413, 415),
    openapi_extra={"parameters": [parameter("If-Match", {"type": "string"}, "Only if it has this ETag", where="header")]},
)
@needs(WRITE)
async def patch_document(call: Writing, document_id: DocumentId, body: PatchDocument) -> Response:
    """Changes title and metadata by a merge patch."""
    expected = call.request.headers.get("if-match")
    patch = DocumentPatch(**{name: getattr(body, name) if name in body.model_fields_set else UNSET for name in ("title", "metadata")})

    def check(document: domain.Document) -> None:
        if expected is not None and not matches(expected, document_etag(document)):
            raise PreconditionFailed

    async def work(remember: Remember) -> StoredResponse:
        async def conclude(tx: Transaction, document: domain.Document) -> StoredResponse:
            headers = (("ETag", document_etag(document)),)
            return await remember(tx, reply(200, render.dumps(render.document(document)), headers))

        return await call.parts.documents.patch(call.principal, document_id, patch, check, conclude)

    return await once(call, work, expected)


@router.post("/v1/documents/{document_id}/retry", status_code=202, response_model=Document, responses=errors(409))
@needs(WRITE)
async def retry_document(call: Writing, document_id: DocumentId) -> Response:
    """Queues a failed document, or its failed replacement, again."""

    async def work(remember: Remember) -> StoredResponse:
        async def conclude(tx: Transaction, document: domain.Document) -> StoredResponse:
            return await remember(tx, reply(202, render.dumps(render.document(document))))

        return await call.parts.documents.retry(call.principal, document_id, conclude)

    return await once(call, work)


@router.delete("/v1/documents/{document_id}", status_code=202, response_model=DeletedDocument, responses=errors(409))
@needs(WRITE)
async def delete_document(call: Writing, document_id: DocumentId) -> Response:
    """Deletes a document: from here nothing shows it."""

    async def work(remember: Remember) -> StoredResponse:
        async def conclude(tx: Transaction) -> StoredResponse:
            return await remember(tx, reply(202, render.dumps(render.deleted(document_id, "document"))))

        return await call.parts.documents.delete(call.principal, document_id, conclude)

    return await once(call, work)
