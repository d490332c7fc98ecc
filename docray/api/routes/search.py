"""Search."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from starlette.responses import Response

from docray.answering.filters import parse_filter
from docray.api import render
from docray.api.calls import Writing
from docray.api.idempotency import once_computed, reply
from docray.api.openapi import errors
from docray.api.routing import make_router, needs
from docray.api.schemas.questions import SearchBody, SearchResults
from docray.domain.jobs import StoredResponse
from docray.domain.questions import Scope, SearchMode, SearchRequest
from docray.security.scopes import SEARCH

router = make_router("questions")


def scope_of(collection_ids: Sequence[UUID], document_ids: Sequence[UUID], condition: dict[str, Any]) -> Scope:
    """Which passages are meant; what is empty restricts nothing. InvalidField names what is wrong in a filter."""
    return Scope(
        collection_ids=tuple(collection_ids) or None,
        document_ids=tuple(document_ids) or None,
        filter=parse_filter(condition) if condition else None,
    )


@router.post("/v1/search", response_model=SearchResults, responses=errors(400, 409, 413, 415))
@needs(SEARCH)
async def search(call: Writing, body: SearchBody) -> Response:
    """Finds passages."""
    request = SearchRequest(
        query=body.query,
        limit=body.limit,
        mode=SearchMode(body.mode),
        scope=scope_of(body.collection_ids, body.document_ids, body.filter),
        rerank=body.rerank,
        merge_neighbours=body.merge_neighbours,
    )

    async def work() -> StoredResponse:
        found = await call.services.search.search(call.principal, request)
        return reply(200, render.dumps(render.search_results(found)))

    return await once_computed(call, work)
