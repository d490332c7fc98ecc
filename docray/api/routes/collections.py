"""Collections and the documents in them."""

from typing import Annotated, Any, Literal

from fastapi import Query
from starlette.responses import Response

from docray.api import render
from docray.api.calls import Reading, Writing
from docray.api.idempotency import Remember, once, reply
from docray.api.openapi import errors
from docray.api.routes.paths import After, CollectionId, DocumentId, Limit
from docray.api.routing import make_router, needs
from docray.api.schemas.common import DeletedCollection
from docray.api.schemas.documents import (
    Collection,
    CollectionDocument,
    CollectionDocumentList,
    CollectionList,
    NewCollection,
    PatchCollection,
    PutMembership,
)
from docray.domain.catalog import Paging
from docray.domain.ids import new_id
from docray.domain.jobs import StoredResponse
from docray.ingestion.merge_patch import merged
from docray.security.scopes import READ, WRITE

router = make_router("collections")


@router.post("/v1/collections", status_code=201, response_model=Collection, responses=errors(400, 409, 413, 415))
@needs(WRITE)
async def create_collection(call: Writing, body: NewCollection) -> Response:
    """Makes a collection; its name is its own within the tenant."""

    async def work(remember: Remember) -> StoredResponse:
        async with call.transaction() as tx:
            made = await tx.collections.insert(new_id(), name=body.name, description=body.description, metadata=body.metadata)
            await tx.audit("collection.create", "collection", made.id)
            return await remember(tx, reply(201, render.dumps(render.collection(made))))

    return await once(call, work)


@router.get("/v1/collections", response_model=CollectionList)
@needs(READ)
async def list_collections(call: Reading, limit: Limit = 50, after: After = None) -> Response:
    """Lists collections, newest first."""
    async with call.transaction() as tx:
        found = await tx.collections.list(Paging(limit=limit, after=after))
    return Response(render.listing(found, render.collection), media_type="application/json")


@router.get("/v1/collections/{collection_id}", response_model=Collection)
@needs(READ)
async def read_collection(call: Reading, collection_id: CollectionId) -> Response:
    """Reads one collection."""
    async with call.transaction() as tx:
        found = await tx.collections.get(collection_id)
    return Response(render.dumps(render.collection(found)), media_type="application/json")


@router.patch("/v1/collections/{collection_id}", response_model=Collection, responses=errors(400, 409, 413, 415))
@needs(WRITE)
async def patch_collection(call: Writing, collection_id: CollectionId, body: PatchCollection) -> Response:
    """Changes a collection by a merge patch."""

    async def work(remember: Remember) -> StoredResponse:
        async with call.transaction() as tx:
            before = await tx.collections.get(collection_id, lock=True)
            changes: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
            if "metadata" in changes:
                changes["metadata"] = {} if body.metadata is None else merged(before.metadata, body.metadata)
            after = await tx.collections.patch(collection_id, **changes) if changes else before
            await tx.audit("collection.patch", "collection", collection_id, {"fields": sorted(changes)})
            return await remember(tx, reply(200, render.dumps(render.collection(after))))

    return await once(call, work)


@router.delete("/v1/collections/{collection_id}", status_code=202, response_model=DeletedCollection, responses=errors(409))
@needs(WRITE)
async def delete_collection(
    call: Writing,
    collection_id: CollectionId,
    documents: Annotated[Literal["keep", "delete"], Query(description="`delete`: its documents too, but those in other collections")] = "keep",
) -> Response:
    """Deletes a collection, and on demand the documents that are in no other one."""

    async def work(remember: Remember) -> StoredResponse:
        async with call.transaction() as tx:
            gone = await tx.collections.delete(collection_id, delete_documents=documents == "delete")
            await tx.audit("collection.delete", "collection", collection_id, {"documents": len(gone)})
            for document_id in gone:
                await tx.audit("document.delete", "document", document_id)
            return await remember(tx, reply(202, render.dumps(render.deleted(collection_id, "collection"))))

    return await once(call, work)


@router.get("/v1/collections/{collection_id}/documents", response_model=CollectionDocumentList)
@needs(READ)
async def list_collection_documents(call: Reading, collection_id: CollectionId, limit: Limit = 50, after: After = None) -> Response:
    """Lists who is in a collection, newest first."""
    async with call.transaction() as tx:
        found = await tx.collections.members(collection_id, Paging(limit=limit, after=after))
    return Response(render.listing(found, render.membership), media_type="application/json")


@router.put(
    "/v1/collections/{collection_id}/documents/{document_id}", response_model=CollectionDocument, responses=errors(400, 409, 413, 415)
)
@needs(WRITE)
async def put_collection_document(
    call: Writing, collection_id: CollectionId, document_id: DocumentId, body: PutMembership | None = None
) -> Response:
    """Puts a document into a collection, with attributes of its own there."""
    attributes = body.attributes if body is not None else None

    async def work(remember: Remember) -> StoredResponse:
        async with call.transaction() as tx:
            member = await tx.collections.add(collection_id, document_id, attributes)
            await tx.audit("collection.add", "collection", collection_id, {"document_id": str(document_id)})
            return await remember(tx, reply(200, render.dumps(render.membership(member))))

    return await once(call, work)


@router.delete(
    "/v1/collections/{collection_id}/documents/{document_id}", status_code=204, response_class=Response, responses=errors(409)
)
@needs(WRITE)
async def remove_collection_document(call: Writing, collection_id: CollectionId, document_id: DocumentId) -> Response:
    """Takes a document out of a collection; the document stays."""

    async def work(remember: Remember) -> StoredResponse:
        async with call.transaction() as tx:
            await tx.collections.remove(collection_id, document_id)
            await tx.audit("collection.remove", "collection", collection_id, {"document_id": str(document_id)})
            return await remember(tx, reply(204, b""))

    return await once(call, work)
