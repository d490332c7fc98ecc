"""Reindexes: all documents made anew beside what answers, then switched, rolled back or finished."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from starlette.responses import Response

from docray.api import render
from docray.api.calls import Call, Reading, Writing
from docray.api.idempotency import Remember, once, reply
from docray.api.openapi import errors
from docray.api.routes.paths import After, Limit, ReindexId
from docray.api.routing import make_router, needs
from docray.api.schemas.reindexes import NewReindex, Reindex, ReindexList, SwitchReindex
from docray.domain import reindexes as domain
from docray.domain.catalog import Paging, Reindexes
from docray.domain.ids import new_id
from docray.domain.jobs import StoredResponse
from docray.security.scopes import ADMINISTER

router = make_router("reindexes")


@router.post("/v1/reindexes", status_code=201, response_model=Reindex, responses=errors(400, 404, 409, 413, 415))
@needs(ADMINISTER)
async def start_reindex(call: Writing, body: NewReindex) -> Response:
    """Starts building every document anew, beside what answers. One that was switched before is finished by that."""
    services = call.services
    wanted = domain.NewReindex(
        id=new_id(), form=services.index_form, model_before=services.present_model, switch=domain.Switch(body.switch),
        collection_id=body.collection_id,
    )  # fmt: skip

    async def work(remember: Remember) -> StoredResponse:
        async with call.transaction() as tx:
            made = await tx.reindexes.start(wanted)
            await tx.audit("reindex.start", "reindex", made.id, {"switch": body.switch})
            return await remember(tx, reply(201, render.dumps(render.reindex(made))))

    return await once(call, work)


@router.get("/v1/reindexes", response_model=ReindexList)
@needs(ADMINISTER)
async def list_reindexes(call: Reading, limit: Limit = 50, after: After = None) -> Response:
    """Lists reindexes, newest first."""
    async with call.transaction() as tx:
        found = await tx.reindexes.list(Paging(limit=limit, after=after))
    return Response(render.listing(found, render.reindex), media_type="application/json")


@router.get("/v1/reindexes/{reindex_id}", response_model=Reindex)
@needs(ADMINISTER)
async def read_reindex(call: Reading, reindex_id: ReindexId) -> Response:
    """Reads one reindex: how far it is."""
    async with call.transaction() as tx:
        found = await tx.reindexes.get(reindex_id)
    return Response(render.dumps(render.reindex(found)), media_type="application/json")


@router.post("/v1/reindexes/{reindex_id}/switch", response_model=Reindex, responses=errors(400, 409, 413, 415))
@needs(ADMINISTER)
async def switch_reindex(call: Writing, reindex_id: ReindexId, body: SwitchReindex | None = None) -> Response:
    """Lets all that is built answer, at once. What answered before is kept until `finish`."""
    accept_failures = body is not None and body.accept_failures
    return await _change(call, reindex_id, "switch", lambda reindexes: reindexes.switch(reindex_id, accept_failures=accept_failures))


@router.post("/v1/reindexes/{reindex_id}/rollback", response_model=Reindex, responses=errors(409))
@needs(ADMINISTER)
async def roll_back_reindex(call: Writing, reindex_id: ReindexId) -> Response:
    """Lets what answered before answer again, at once, and removes what was built."""
    return await _change(call, reindex_id, "rollback", lambda reindexes: reindexes.rollback(reindex_id))


@router.post("/v1/reindexes/{reindex_id}/finish", response_model=Reindex, responses=errors(409))
@needs(ADMINISTER)
async def finish_reindex(call: Writing, reindex_id: ReindexId) -> Response:
    """Removes what answered before the switch: from here there is no way back."""
    return await _change(call, reindex_id, "finish", lambda reindexes: reindexes.finish(reindex_id))


@router.post("/v1/reindexes/{reindex_id}/retry", response_model=Reindex, responses=errors(409))
@needs(ADMINISTER)
async def retry_reindex(call: Writing, reindex_id: ReindexId) -> Response:
    """Builds what could not be built once more."""
    return await _change(call, reindex_id, "retry", lambda reindexes: reindexes.retry(reindex_id))


async def _change(call: Call, reindex_id: UUID, what: str, change: Callable[[Reindexes], Awaitable[domain.Reindex]]) -> Response:
    async def work(remember: Remember) -> StoredResponse:
        async with call.transaction() as tx:
            changed = await change(tx.reindexes)
            await tx.audit(f"reindex.{what}", "reindex", reindex_id)
            return await remember(tx, reply(200, render.dumps(render.reindex(changed))))

    return await once(call, work)
