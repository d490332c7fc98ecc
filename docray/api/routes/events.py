"""A document's way to ready as server-sent events. The catalogue is asked for the version only, until it has grown."""

import asyncio
from collections.abc import AsyncGenerator
from uuid import UUID

from starlette.responses import Response

from docray.api import render
from docray.api.calls import Call, Reading
from docray.api.event_stream import EventStream, Feed, event, last_seen
from docray.api.openapi import media, parameter
from docray.api.routes.paths import DocumentId
from docray.api.routing import make_router, needs
from docray.domain.documents import Document, State
from docray.domain.errors import NotFound
from docray.security.scopes import READ

router = make_router("documents")

_PERIOD_S = 0.3


@router.get(
    "/v1/documents/{document_id}/events",
    response_class=Response,
    responses=media("text/event-stream", "`progress` as it changes, last `ready`, `failed` or `deleted`", binary=False),
    openapi_extra={"parameters": [parameter("Last-Event-ID", {"type": "string"}, "Resumes after this event", where="header")]},
)
@needs(READ)
async def read_events(call: Reading, document_id: DocumentId) -> Response:
    """Follows a document until it is ready, failed or deleted."""
    seen = last_seen(call.request.headers)
    async with call.transaction() as tx:
        document = await tx.documents.get(document_id)
    return EventStream(Feed(_changes(call, document, seen)))


def kind_of(document: Document) -> str:
    """The event that tells of this state. Only `progress` is followed by another one."""
    replacement = document.replacement
    if document.state is State.FAILED or (replacement is not None and replacement.state is State.FAILED):
        return "failed"
    return "ready" if document.state is State.READY and replacement is None else "progress"


async def _changes(call: Call, document: Document, seen: int) -> AsyncGenerator[bytes, None]:
    """Events after version `seen`; an end that was seen is told again."""
    seen = min(seen, document.version)  # an id from elsewhere must not silence the stream
    while True:
        kind = kind_of(document)
        if document.version > seen or kind != "progress":
            seen = document.version
            yield event(kind, render.dumps(render.document(document)), str(seen))
        if kind != "progress":
            return
        changed = await _next(call, document.id, seen)
        if isinstance(changed, int):
            yield event("deleted", render.dumps(render.deleted(document.id, "document")), str(changed))
            return
        document = changed


async def _next(call: Call, document_id: UUID, seen: int) -> Document | int:
    """The document as soon as its version has grown; a version beyond those seen when it is deleted."""
    while True:
        await asyncio.sleep(_PERIOD_S)
        async with call.transaction() as tx:
            found = await tx.documents.version(document_id)
            if found is None or found[1]:
                return max(seen + 1, found[0] if found else 0)
            if found[0] > seen:
                try:
                    return await tx.documents.get(document_id)
                except NotFound:  # deleted between the two
                    return max(seen + 1, found[0])
